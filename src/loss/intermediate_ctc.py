"""CTC loss at intermediate layers of an encoder."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from src.loss.ctc import CTCLoss


class IntermediateCTC(nn.Module):
    """CTC loss of the outputs of intermediate layers, averaged over the layers.

    Lee and Watanabe, "Intermediate Loss Regularization for CTC-based Speech Recognition"
    (arXiv 2102.03216, equation 12). The layers are chosen by `model.intermediate_layers`; in
    evaluations they have no outputs, and the loss is 0.

    Args:
        text_encoder: encodes the transcripts for these layers, e.g. as phonemes, with
            `model.intermediate_vocab_size` tokens (several levels of units: Krishna et al.,
            arXiv 1807.06234); None: the tokens of the last layer.
        per_label: divide the loss of each utterance by its number of tokens before the mean.
    """

    def __init__(self, text_encoder: Any = None, per_label: bool = True):
        super().__init__()
        self.text_encoder = text_encoder
        self.ctc = CTCLoss(per_label)
        self.encoded: dict[str, Tensor] = {}

    def forward(
        self,
        log_probs: Float[Tensor, "B T V"],
        log_probs_length: Int[Tensor, " B"],
        tokens: Int[Tensor, "B L"],
        tokens_length: Int[Tensor, " B"],
        text: list[str] | None = None,
        intermediate_log_probs: Float[Tensor, "B K T W"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Mean CTC loss of K layers.

        Args:
            log_probs: of the last layer [B, T, V].
            log_probs_length: [B], in frames.
            tokens: targets of the last layer [B, L].
            tokens_length: [B].
            text: B normalised transcripts, for a text encoder.
            intermediate_log_probs: [B, K, T, W]; None: not computed.

        Returns:
            `loss`.

        Raises:
            ValueError: the text encoder has another number of tokens than the layers, there is no
                text for it, or the model has no intermediate layers.
        """
        if intermediate_log_probs is None:
            if self.training:
                raise ValueError(
                    "IntermediateCTC: the model has no outputs of intermediate layers; give "
                    "model.intermediate_layers (Conformers only), or another loss."
                )
            return {"loss": log_probs.sum() * 0.0}
        if self.text_encoder is not None:
            if text is None:
                raise ValueError("IntermediateCTC: a text encoder, but no key 'text' in the batch.")
            tokens, tokens_length = self.encode(text, intermediate_log_probs)
        losses = [
            self.ctc(layer, log_probs_length, tokens, tokens_length)["loss"]
            for layer in intermediate_log_probs.unbind(1)
        ]
        return {"loss": torch.stack(losses).mean()}

    def encode(self, texts: list[str], log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, L] of transcripts and their numbers [B], on the device of `log_probs`."""
        if len(self.text_encoder) != log_probs.shape[-1]:
            raise ValueError(
                f"config, model.intermediate_vocab_size: {log_probs.shape[-1]}; the text encoder "
                f"of the intermediate loss has {len(self.text_encoder)} tokens."
            )
        for text in texts:
            if text not in self.encoded:
                ids = self.text_encoder.encode(text)
                self.encoded[text] = torch.tensor(ids, dtype=torch.int64)
        rows = [self.encoded[text] for text in texts]
        length = torch.tensor([len(row) for row in rows], device=log_probs.device)
        return pad_sequence(rows, batch_first=True).to(log_probs.device), length
