"""Recordings of noise or of room impulse responses that transforms use."""

from pathlib import Path

from torch import Tensor

from src.utils.audio import read_recordings
from src.utils.options import check_whole


def manifest_path(owner: str, manifest: str | Path | None) -> Path | None:
    """The path of a manifest option, or None if it is not set.

    Args:
        owner: name of the transform, for the message.
        manifest: value of the option.

    Raises:
        ValueError: the value is neither a path nor None.
    """
    if manifest is None:
        return None
    if not isinstance(manifest, str | Path) or not str(manifest):
        raise ValueError(f"{owner}, manifest: {manifest!r}; the path of a manifest, or null.")
    return Path(manifest)


def load_recordings(manifest: Path, sample_rate: int) -> list[Tensor]:
    """All recordings of a manifest, each [T], mono at `sample_rate`.

    Args:
        manifest: JSON lines with `audio_filepath`.
        sample_rate: in Hz.

    Raises:
        FileNotFoundError: the manifest or a recording does not exist.
        ValueError: the manifest lists no recordings, or one is not readable.
    """
    check_whole("sample_rate", sample_rate)
    recordings = read_recordings(manifest, sample_rate)
    if not recordings:
        raise ValueError(f"{manifest}: lists no recordings.")
    return recordings
