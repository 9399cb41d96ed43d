"""Self-supervised pretraining by masked token prediction."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from src.tasks.base import Task
from src.utils.files import write_beside
from src.utils.plots import masked_tokens_image


class PretrainingTask(Task):
    """Shows and saves the tokens, the masked ones among them and their predictions.

    The result for a user is the sequence of encoded frames.
    """

    name = "pretraining"
    output = "encoded"
    sort_by = "loss"

    def postprocess(
        self, masked_tokens: Tensor, speaker: list[str] | None = None, **_
    ) -> dict[str, Any]:
        """`rows` with the number of masked tokens as `masked`, and `speaker` where it is known.

        Args:
            masked_tokens: [B, T'], True at the tokens to predict.
            speaker: name of each utterance's speaker.
        """
        rows: list[dict[str, Any]] = [{"masked": count} for count in masked_tokens.sum(1).tolist()]
        for row, name in zip(rows, speaker or [], strict=False):
            row["speaker"] = name
        return {"rows": rows}

    def show(self, writer: Any, step: int, name: str, **batch) -> None:
        """Log a picture of the longest utterance: spectrogram, mask, tokens and predictions.

        Args:
            writer: experiment tracker.
            step: optimisation step.
            name: of the evaluation.
            batch: after `postprocess`.
        """
        item = int(batch["spectrogram_length"].argmax())
        frames, size = int(batch["spectrogram_length"][item]), int(batch["tokens_length"][item])
        noisy = batch.get("noisy_spectrogram", batch["spectrogram"])
        masked = batch["masked_tokens"][item, :size].cpu()
        start = int(batch["masked_tokens"][:item].sum())  # logits hold the items' masked tokens
        logits = batch["logits"][start : start + int(masked.sum()), :, 0]
        picture = masked_tokens_image(
            noisy[item, :, :frames].cpu(),
            batch["ssl_mask"][item, : int(batch["ssl_mask_length"][item])].cpu(),
            batch["tokens"][item, 0, :size].cpu(),
            masked,
            logits.argmax(1).cpu(),
        )
        writer.image(f"{name}/masked_tokens", picture, step)

    def save(self, directory: Path, id: list[str], **batch) -> None:
        """Write the tokens of each codebook and which are masked to `<id>.json`.

        Args:
            directory: an existing folder.
            id: names of the utterances.
            batch: `tokens` [B, num_codebooks, T'], `tokens_length` [B], `masked_tokens` [B, T'].
        """
        for i, name in enumerate(id):
            size = int(batch["tokens_length"][i])
            content = {
                "tokens": batch["tokens"][i, :, :size].tolist(),
                "masked": batch["masked_tokens"][i, :size].int().tolist(),
            }
            with write_beside(directory / f"{name}.json") as path:
                path.write_text(json.dumps(content) + "\n", encoding="utf-8")
