"""Audio that lies in a shard: a tar file with the audio files of many utterances.

A row of a manifest names it by `shard` (the path or address of the tar file), `shard_offset` (where
the audio file begins in it, in bytes), `shard_size` (of the audio file, in bytes) and `shard_crc32`
(its CRC-32, if known); `audio_filepath` is the name that it has in the shard. Nothing is ever
unpacked, so such a name is never the path of a file.
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from src.utils.byte_ranges import Remote, is_url, read_range, scheme_of
from src.utils.options import has_surrogates, shown

SHARD_KEYS = ("shard", "shard_offset", "shard_size", "shard_crc32")
LARGEST = 1 << 62  # bytes
CRC32S = 1 << 32  # there are so many


@dataclass(frozen=True)
class ShardSample:
    """An audio file in a shard; read like a `Path`, and shown as SHARD/NAME.

    Attributes:
        name: of the audio file in the shard.
        shard: path or address of the shard.
        offset: of the audio file's first byte in the shard.
        size: of the audio file, in bytes.
        crc32: of the audio file; None: unknown.
        remote: how a shard is read over the network; None: with the defaults.
        data: the audio file, if it has been read already.
    """

    name: str
    shard: str
    offset: int
    size: int
    crc32: int | None = None
    remote: Remote | None = field(default=None, compare=False, repr=False)
    data: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    @property
    def stem(self) -> str:
        """The name without folder and ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the name, as `.flac`."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Path:
        """The folder of the name, below the shard."""
        return Path(str(self)).parent

    def read_bytes(self) -> bytes:
        """The audio file.

        Raises:
            FileNotFoundError: there is no such shard; this and the next name the audio file, too.
            ValueError: the shard is no regular file, was truncated, changed or damaged.
            OSError: the disk fails, or the network or the server in all attempts.
        """
        if self.data is not None:
            return self.data
        try:
            return read_range(self.shard, self.offset, self.size, self.crc32, self.remote)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{self.name} in the shard {error}") from None
        except OSError as error:
            reason = f"{self.shard}: {error.strerror}." if error.errno else error
            raise OSError(f"{self.name} in the shard {reason}") from None


AudioPath = Path | ShardSample


def audio_place(values: dict[str, Any], folder: Path, remote: Remote | None = None) -> AudioPath:
    """Where the audio of a row of a manifest lies.

    Args:
        values: of the row, checked.
        folder: that paths in it are relative to.
        remote: how shards are read over the network; None: with the defaults.
    """
    shard, name = values.get("shard"), values["audio_filepath"]
    if shard is None:
        return folder / name
    place = shard if is_url(shard) else str(folder / shard)
    start, size = values["shard_offset"], values["shard_size"]
    return ShardSample(name, place, start, size, values.get("shard_crc32"), remote)


def check_shard(values: dict[str, Any]) -> None:
    """Check the keys by which a row with `shard` names its audio.

    Raises:
        ValueError: one is missing or has a bad value; names it.
    """
    shard = values["shard"]
    if not isinstance(shard, str) or not shard or has_surrogates(shard):
        raise ValueError(f"shard is {shown(shard)}, wanted the path or address of a tar file.")
    if is_url(shard):
        scheme_of(shard)
    for key, low, high in (
        ("shard_offset", 0, LARGEST),
        ("shard_size", 1, LARGEST),
        ("shard_crc32", 0, CRC32S),
    ):
        value = values.get(key)
        if value is None and key == "shard_crc32":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high:
            raise ValueError(f"{key} is {shown(value)}, wanted a whole number from {low} on.")
