"""What the rows of a manifest hold, in numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def statistics(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Name -> value, as text, of the rows of a manifest; at least one row.

    Args:
        rows: as they stand in the manifest.
    """
    seconds = np.array([row["duration"] for row in rows])
    values = {
        "utterances": f"{len(rows)}",
        "hours": f"{seconds.sum() / 3600:.2f}",
        "seconds": f"{seconds.min():.2f} to {seconds.max():.2f}, median {np.median(seconds):.2f}",
    }
    speakers = {row["speaker"] for row in rows if row.get("speaker")}
    if speakers:
        values["speakers"] = f"{len(speakers)}"
    texts = [row["text"] for row in rows if row.get("text")]
    if texts:
        words = [word for text in texts for word in text.split()]
        rate = sum(map(len, texts)) / sum(row["duration"] for row in rows if row.get("text"))
        values["words"] = f"{len(words)}, {len(set(words))} different"
        values["sentences"] = f"{len(set(texts))} different"
        values["characters"] = f"{rate:.1f} per second: {''.join(sorted(set(''.join(texts))))}"
    return values


def print_statistics(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the statistics of some rows below a title."""
    print(title)
    for name, value in statistics(rows).items():
        print(f"  {name:<11} {value}")
