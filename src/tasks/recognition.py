"""Speech recognition: from the outputs of a model to transcripts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.tasks.base import Task
from src.utils.files import write_beside
from src.utils.options import check_whole


class RecognitionTask(Task):
    """Decodes the outputs of a model to text.

    Subclasses override `search` for models whose decoding needs the model itself, e.g. transducers.

    Args:
        text_encoder: turns token ids into text.
        decoders: name -> decoder. The first one's hypotheses are `prediction`, those of any other
            `prediction_<name>`. A decoder with a method `set_text_encoder` is given the encoder.
        rows_logged: number of utterances in the table that the writer gets.

    Raises:
        ValueError: there is no decoder, or rows_logged is below 0.
    """

    name = "recognition"
    output = "prediction"
    sort_by = "WER"

    def __init__(self, text_encoder, decoders: dict[str, Callable], rows_logged: int = 10):
        check_whole("task.rows_logged", rows_logged, low=0)
        if not decoders:
            raise ValueError("task.decoders is empty: name at least one decoder, e.g. greedy.")
        for decoder in decoders.values():
            if hasattr(decoder, "set_text_encoder"):
                decoder.set_text_encoder(text_encoder)
        self.text_encoder, self.decoders = text_encoder, decoders
        self.rows_logged = rows_logged

    def decode(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the model, and the hypotheses of every decoder.

        Args:
            model: in evaluation mode.
            batch: after the transforms of inference.

        Returns:
            The outputs, `prediction`, and `prediction_<name>` of each further decoder: a list of
            transcripts.
        """
        outputs = model(**batch)
        predictions = {}
        for i, (name, decoder) in enumerate(self.decoders.items()):
            tokens = self.search(decoder, model, outputs)
            key = f"prediction_{name}" if i else "prediction"
            predictions[key] = [self.text_encoder.decode(ids) for ids in tokens]
        return outputs | predictions

    def search(self, decoder: Any, model: Any, outputs: dict[str, Any]) -> list[list[int]]:
        """Token ids of each utterance by one decoder; here, by a CTC decoder.

        Args:
            decoder: one of `decoders`.
            model: not used by CTC.
            outputs: of the model: `log_probs` [B, T, V] and `log_probs_length` [B].
        """
        return decoder(outputs["log_probs"].float().cpu(), outputs["log_probs_length"].cpu())

    def postprocess(self, text: list[str] | None = None, **batch) -> dict[str, Any]:
        """`rows` with the columns `target`, if there is one, and the hypotheses.

        Args:
            text: references.
            batch: holds the hypotheses.
        """
        columns = {} if text is None else {"target": text}
        columns |= predictions_of(batch)
        return {
            "rows": [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        }

    def show(self, writer: Any, step: int, name: str, rows: list[dict], **_) -> None:
        """Log a table of the first utterances.

        Args:
            writer: experiment tracker.
            step: optimisation step.
            name: of the evaluation.
            rows: ids, scores, references and hypotheses.
        """
        rows = rows[: self.rows_logged]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        values = [[rounded(row.get(column, "")) for column in columns] for row in rows]
        writer.table(f"{name}/utterances", columns, values, step)

    def save(self, directory: Path, id: list[str], **batch) -> None:
        """Write each transcript of the last decoder, usually the best one, to `<id>.txt`.

        Args:
            directory: an existing folder.
            id: names of the utterances.
            batch: holds the hypotheses.
        """
        transcripts = list(predictions_of(batch).values())[-1]
        for name, transcript in zip(id, transcripts, strict=True):
            with write_beside(directory / f"{name}.txt") as path:
                path.write_text(transcript + "\n", encoding="utf-8")


def predictions_of(batch: dict[str, Any]) -> dict[str, list[str]]:
    """The hypotheses of every decoder in a batch, by key."""
    return {
        key: value
        for key, value in batch.items()
        if key == "prediction" or key.startswith("prediction_")
    }


def rounded(value: Any) -> Any:
    """A number with four decimals; anything else as it is."""
    return round(value, 4) if isinstance(value, float) else value
