"""Speech recognition: frames to text."""

from pathlib import Path
from typing import Any

from torch import Tensor

from src.tasks.base import Task
from src.utils.edit_distance import character_error_rate, word_error_rate
from src.utils.files import write_beside


class RecognitionTask(Task):
    """Decodes log-probabilities to text.

    Args:
        text_encoder: turns token ids into text.
        decoders: name -> decoder. The first gives `prediction`, any other
            `prediction_<name>`.
        rows_logged: lines of the table of utterances that the writer gets.
    """

    output = "prediction"
    worst_first = "WER"

    def __init__(self, text_encoder, decoders: dict[str, Any], rows_logged: int = 10):
        if not decoders:
            raise ValueError("task.decoders is empty: name at least one decoder, e.g. greedy.")
        for decoder in decoders.values():
            decoder.set_text_encoder(text_encoder)
        self.text_encoder = text_encoder
        self.decoders = decoders
        self.rows_logged = rows_logged

    def postprocess(
        self, log_probs: Tensor, log_probs_length: Tensor, text: list[str] | None = None, **batch
    ) -> dict[str, Any]:
        """Transcripts by every decoder, and a row for each utterance.

        Args:
            log_probs: [B, T, V].
            log_probs_length: [B], frames.
            text: the references, where there are any.
            batch: `id` names the utterances.
        """
        found = {}
        for i, (name, decoder) in enumerate(self.decoders.items()):
            key = "prediction" if i == 0 else f"prediction_{name}"
            ids = decoder(log_probs.float().cpu(), log_probs_length.cpu())
            found[key] = [self.text_encoder.decode(tokens) for tokens in ids]
        return found | {"rows": table_rows(batch["id"], text, found)}

    def log_batch(self, writer, step: int, name: str, rows: list[dict], **_) -> None:
        """A table of utterances with target, prediction, WER and CER."""
        rows = rows[: self.rows_logged]
        columns = list(rows[0])
        writer.table(f"{name}/utterances", columns, [[r[c] for c in columns] for r in rows], step)

    def save_batch(self, directory: Path, id: list[str], **batch) -> None:
        """`<id>.txt` with the transcript by the last decoder, the most thorough one."""
        keys = [key for key in batch if key.startswith("prediction")]
        for name, transcript in zip(id, batch[keys[-1]], strict=True):
            with write_beside(directory / f"{name}.txt") as path:
                path.write_text(transcript + "\n", encoding="utf-8")


def table_rows(ids: list[str], text: list[str] | None, found: dict[str, list[str]]) -> list[dict]:
    """One row an utterance: id, errors of the first decoder, target, predictions."""
    rows = []
    for i, name in enumerate(ids):
        predictions = {key: values[i] for key, values in found.items()}
        row: dict[str, Any] = {"id": name}
        if text is not None:
            first = next(iter(predictions.values()))
            row["WER"] = round(word_error_rate(text[i], first), 4)
            row["CER"] = round(character_error_rate(text[i], first), 4)
            row["target"] = text[i]
        rows.append(row | predictions)
    return rows
