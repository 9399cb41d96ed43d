"""Short-time Fourier transform."""

import torch
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_whole
from src.utils.stages import Sliding, Transform


class PowerSpectrogram(nn.Module):
    """Squared magnitude of the short-time Fourier transform with a Hann window.

    Frames are centred, and both ends of each utterance are zero-padded, so that the frames of
    an utterance do not depend on the padding of the batch.

    Args:
        n_fft: size of the Fourier transform.
        win_length: window size in samples, at most `n_fft`.
        hop_length: distance between frames in samples.
        symmetric: use a symmetric window (`torch.hann_window(periodic=False)`).

    Raises:
        ValueError: an argument is not a whole number above 0, or the window exceeds `n_fft`.
    """

    window: Tensor

    def __init__(self, n_fft: int, win_length: int, hop_length: int, symmetric: bool = False):
        super().__init__()
        check_whole("features, n_fft", n_fft)
        check_whole("features, win_length", win_length, high=n_fft)
        check_whole("features, hop_length", hop_length)
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        window = torch.hann_window(win_length, periodic=not symmetric)
        self.register_buffer("window", window, persistent=False)

    def output_length(self, samples):
        """Number of frames for a number of samples (int, array or tensor)."""
        return samples // self.hop_length + 1

    def streaming_stage(self, function: Transform) -> Sliding:
        """The stage of a function of these spectrograms, frame by frame, in a stream.

        Args:
            function: (audio [B, T], lengths [B]) -> (features [B, F, frames], lengths [B]).
        """
        reach = -(-self.win_length // 2)  # samples before and after the middle of a frame
        left = -(-(reach + 1) // self.hop_length)  # pre-emphasis needs one more sample
        # A frame for each whole hop: the last one may be left out, see `drop_last_frame`.
        return Sliding(function, self.hop_length, left, max(reach, self.hop_length))

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Power spectrogram of each utterance.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.

        Returns:
            The spectrogram [B, n_fft // 2 + 1, frames] and the lengths [B] in frames.
        """
        audio = audio * ~padding_mask(audio_length, audio.shape[-1])
        spectrum = torch.stft(
            audio,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.real.square() + spectrum.imag.square(), self.output_length(audio_length)
