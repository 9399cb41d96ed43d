"""Self-supervised pretraining by masked token prediction."""

import json
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from src.tasks.base import Task
from src.utils.files import write_beside
from src.utils.plots import masked_tokens_image


class PretrainingTask(Task):
    """Shows what is hidden and how much of it was guessed; its output are encoded frames."""

    output = "encoded"
    worst_first = "loss"

    def postprocess(
        self, logits: Tensor, targets: Tensor, masked_tokens: Tensor, id: list[str], **batch
    ) -> dict[str, Any]:
        """A row for each utterance: masked tokens, share that was right, mean loss.

        Args:
            logits: [N, classes, books].
            targets: [N, books].
            masked_tokens: [B, T'], N times True.
            id: names.
            batch: swallowed.
        """
        losses = F.cross_entropy(logits.float(), targets, reduction="none")  # [N, books]
        right = (logits.argmax(1) == targets).float()
        sizes = masked_tokens.sum(1).tolist()
        rows = []
        for name, own, hits in zip(id, losses.split(sizes), right.split(sizes), strict=True):
            row: dict[str, Any] = {"id": name, "masked": len(own), "accuracy": 0.0, "loss": 0.0}
            if len(own):
                row |= {"accuracy": round(float(hits.mean()), 4)}
                row |= {"loss": round(float(own.mean()), 4)}
            rows.append(row)
        return {"rows": rows}

    def log_batch(self, writer, step: int, name: str, **batch) -> None:
        """The longest utterance: spectrogram, what was masked, its tokens, those guessed right."""
        item = int(batch["spectrogram_length"].argmax())
        frames, size = int(batch["spectrogram_length"][item]), int(batch["tokens_length"][item])
        noisy = batch.get("noisy_spectrogram", batch["spectrogram"])
        before = int(batch["masked_tokens"][:item].sum())
        hidden = batch["masked_tokens"][item, :size].cpu()
        guesses = batch["logits"][before : before + int(hidden.sum()), :, 0].argmax(1).cpu()
        mask = batch["mask"][item, : int(batch["mask_length"][item])].cpu()
        picture = masked_tokens_image(
            noisy[item, :, :frames].cpu(),
            mask,
            batch["tokens"][item, 0, :size].cpu(),
            hidden,
            guesses,
        )
        writer.image(f"{name}/masked_tokens", picture, step)

    def save_batch(self, directory: Path, id: list[str], **batch) -> None:
        """`<id>.json` with the tokens of each codebook and where they were masked."""
        for i, name in enumerate(id):
            size = int(batch["tokens_length"][i])
            content = {
                "tokens": batch["tokens"][i, :, :size].tolist(),
                "masked": batch["masked_tokens"][i, :size].int().tolist(),
            }
            with write_beside(directory / f"{name}.json") as path:
                path.write_text(json.dumps(content) + "\n", encoding="utf-8")
