"""Self-supervised pretraining by masked token prediction."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.tasks.base import Task
from src.utils.files import write_beside
from src.utils.plots import masked_tokens_image
from src.utils.sections import Chart, Section


class PretrainingTask(Task):
    """Shows and saves the tokens, the masked ones among them and their predictions.

    The result for a user is the sequence of encoded frames.
    """

    name = "pretraining"
    inference = "inference_ssl"
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
        writer.image(f"{name}/masked_tokens", self.illustrate(item, **batch), step)

    def illustrate(self, item: int, **batch) -> np.ndarray:
        """Picture of an utterance: spectrogram, mask, tokens and predictions of the first codebook.

        Args:
            item: index of the utterance in the batch.
            batch: after `postprocess`.
        """
        frames, size = int(batch["spectrogram_length"][item]), int(batch["tokens_length"][item])
        noisy = batch.get("noisy_spectrogram", batch["spectrogram"])
        masked = batch["masked_tokens"][item, :size].cpu()
        start = int(batch["masked_tokens"][:item].sum())  # logits hold the items' masked tokens
        logits = batch["logits"][start : start + int(masked.sum()), :, 0]
        return masked_tokens_image(
            noisy[item, :, :frames].cpu(),
            batch["ssl_mask"][item, : int(batch["ssl_mask_length"][item])].cpu(),
            batch["tokens"][item, 0, :size].cpu(),
            masked,
            logits.argmax(1).cpu(),
        )

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

    def details(self, id: list[str], **batch) -> list[dict]:
        """How often each code of the first codebook occurs in an utterance, `_codes`.

        Args:
            id: names of the utterances.
            batch: `tokens` [B, num_codebooks, T'], `tokens_length` [B].
        """
        sizes = batch["tokens_length"].tolist()
        tokens = batch["tokens"][:, 0].tolist()
        return [{"_codes": Counter(own[:size])} for own, size in zip(tokens, sizes, strict=True)]

    def sections(self, rows: list[dict]) -> list[Section]:
        """Accuracy over loss of the utterances, and how evenly the codes are used.

        Args:
            rows: the table of utterances with their details.
        """
        points = [(r["loss"], r["accuracy"]) for r in rows if {"loss", "accuracy"} <= r.keys()]
        scores = Chart("Utterances", "loss in nats", "masked accuracy", {"utterances": points})
        codes: Counter[int] = sum((row.get("_codes", Counter()) for row in rows), Counter())
        use = [
            (float(rank), 100 * count / codes.total())
            for rank, (_, count) in enumerate(codes.most_common(), 1)
        ]
        title, axes = "Codebook use", ("rank of the code", "tokens in %")
        return [
            *([scores] if points else []),
            *([Chart(title, *axes, {"first codebook": use}, lines=True)] if use else []),
        ]
