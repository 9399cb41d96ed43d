"""Separation by a model that was trained through a recogniser, with the text of each voice."""

from typing import Any

from src.tasks.separation import SeparationTask
from src.text_encoder.base import TextEncoder
from src.text_encoder.decoders.base import CTCDecoder
from src.utils.batch import BETWEEN_VOICES


class SeparationRecognitionTask(SeparationTask):
    """Separates mixtures as `SeparationTask` does, and transcribes the estimates.

    Recordings that are separated block by block aren't transcribed here; see
    `src.conversation.Conversation`.

    Args:
        text_encoder: turns token ids into text.
        decoder: of CTC.
        options: of `SeparationTask`.
    """

    def __init__(self, text_encoder: TextEncoder, decoder: CTCDecoder, **options: Any):
        super().__init__(**options)
        if hasattr(decoder, "set_text_encoder"):
            decoder.set_text_encoder(text_encoder)
        self.text_encoder, self.decoder = text_encoder, decoder

    def decode(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Estimates of each mixture, in the order of the sources where these are known.

        Args:
            model: in evaluation mode; has `recognise`.
            batch: as of `SeparationTask.decode`.

        Returns:
            What `SeparationTask.decode` returns; unless the batch has recordings, also `log_probs`
            [B, S, T', V] with `log_probs_length` [B], and `prediction`, the transcripts of all
            estimates of each mixture, joined by ` | `.
        """
        outputs = super().decode(model, batch)
        if "separated" in outputs:
            return outputs
        heard = model.recognise(outputs["estimates"], batch["audio"], batch["audio_length"])
        voices = heard["log_probs"].float().cpu().unbind(1)
        tokens = [self.decoder(voice, heard["log_probs_length"].cpu()) for voice in voices]
        texts = [[self.text_encoder.decode(ids) for ids in own] for own in tokens]
        prediction = [BETWEEN_VOICES.join(own) for own in zip(*texts, strict=True)]
        return outputs | heard | {"prediction": prediction}

    def postprocess(self, **batch: Any) -> dict[str, Any]:
        """What `SeparationTask.postprocess` adds, with the transcripts in `rows`.

        Args:
            batch: as of `SeparationTask.postprocess`; with `prediction`, and perhaps `text`.
        """
        added = super().postprocess(**batch)
        for column, key in (("target", "text"), ("prediction", "prediction")):
            for row, value in zip(added["rows"], batch.get(key, ()), strict=False):
                row[column] = value
        return added
