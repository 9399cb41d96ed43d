"""A separator and a recogniser as one model, to be trained through both."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.utils.lengths import without_padding
from src.utils.levels import mixture_gains
from src.utils.resampling import resample


class SeparationRecognition(nn.Module):
    """Estimates the voices of a mixture, and what a recogniser with CTC hears in each of them.

    Everything from the mixture to the log-probabilities is differentiable: the separator, the
    sample rate conversion, the recogniser's front end and the recogniser. The recogniser hears the
    estimates at the level at which they add up to the mixture, as when conversations are
    transcribed; the gains are constants in backward. Its augmentation and cleaning are left out. In
    evaluation mode the model is a separator, and the task calls `recognise` with the final
    estimates.

    Args:
        separator: returns `estimates` [B, S, T] for `audio` [B, T], `audio_length` and `id`.
        features: the recogniser's front end, returns `spectrogram` and `spectrogram_length` for
            `audio` [B, T] and `audio_length`.
        recogniser: returns `log_probs` [B, T', V] and `log_probs_length` for these.
        sample_rate: of the separator, in Hz.
        recogniser_rate: of the recogniser, in Hz.
        vocab_size: number of the tokens of the text encoder, including the blank.
    """

    def __init__(
        self,
        separator: nn.Module,
        features: nn.Module,
        recogniser: nn.Module,
        sample_rate: int,
        recogniser_rate: int,
        vocab_size: int,
    ):
        super().__init__()
        self.separator, self.features, self.recogniser = separator, features, recogniser
        self.sample_rate, self.recogniser_rate = sample_rate, recogniser_rate
        self.vocab_size = vocab_size

    def forward(
        self,
        audio: Float[Tensor, "B T"],
        audio_length: Int[Tensor, " B"],
        id: list[str] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Separate mixtures, and in training recognise the estimates.

        Args:
            audio: mixtures, [B, T].
            audio_length: [B], in samples.
            id: names of the mixtures, for error messages.

        Returns:
            The outputs of the separator, and in training those of `recognise`.
        """
        outputs = self.separator(audio=audio, audio_length=audio_length, id=id)
        if self.training:
            outputs = outputs | self.recognise(outputs["estimates"], audio, audio_length)
        return outputs

    def recognise(
        self,
        estimates: Float[Tensor, "B S T"],
        audio: Float[Tensor, "B T"],
        audio_length: Int[Tensor, " B"],
    ) -> dict[str, Tensor]:
        """Log-probabilities of the tokens in each estimate.

        Args:
            estimates: [B, S, T].
            audio: mixtures, [B, T].
            audio_length: [B], in samples.

        Returns:
            `log_probs` [B, S, T', V] and `log_probs_length` [B], in frames.

        Raises:
            ValueError: the recogniser has other tokens than the text encoder.
        """
        size = estimates.shape[:2]
        old, new = self.sample_rate, self.recogniser_rate
        with torch.autocast(audio.device.type, enabled=False):
            estimates = without_padding(estimates, audio_length)
            voices = estimates * mixture_gains(estimates.detach(), audio.float())
            voices = resample(voices.flatten(0, 1), old, new)
            length = -(audio_length * new // -old).repeat_interleave(size[1])
            spectrogram = self.features(audio=voices, audio_length=length)
        with self.differentiable():
            outputs = self.recogniser(
                spectrogram=spectrogram["spectrogram"],
                spectrogram_length=spectrogram["spectrogram_length"],
            )
        log_probs, length = outputs["log_probs"], outputs["log_probs_length"]
        if log_probs.shape[2] != self.vocab_size:
            raise ValueError(
                f"config, model.recogniser: {log_probs.shape[2]} tokens; {self.vocab_size}, those "
                "of the text encoder."
            )
        return {
            "log_probs": log_probs.unflatten(0, size),
            "log_probs_length": length.unflatten(0, size)[:, 0],
        }

    def differentiable(self) -> AbstractContextManager:
        """Context in which a recogniser in evaluation mode has gradients for its input.

        cuDNN has no backward pass of recurrent networks in evaluation mode.
        """
        frozen = torch.is_grad_enabled() and not self.recogniser.training
        return torch.backends.cudnn.flags(enabled=False) if frozen else nullcontext()
