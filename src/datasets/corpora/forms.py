"""Rows of manifests from the common forms of corpora; nothing that they name is executed."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.corpora.librispeech import read_chapter
from src.datasets.custom_dir import is_recording
from src.datasets.manifest import is_text
from src.datasets.tables import cell, check_columns, read_lines, read_table, read_text
from src.utils.audio_files import full_duration
from src.utils.byte_ranges import is_url
from src.utils.options import is_finite, shown

Values = dict[str, Any]
Part = tuple[str, tuple[float, float] | None]  # recording, start and end in seconds

# Names of columns that are recognised, the best first.
AUDIO_COLUMNS = ("audio_filepath", "audio", "path", "file", "filename", "wav", "wav_filename")
TEXT_COLUMNS = ("text", "sentence", "transcript", "transcription")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")


def rows_of_folder(folder: Path, speakers: bool = False) -> list[Values]:
    """Rows of all recordings below a folder, with absolute paths.

    The transcript of `a/b.wav` is in `a/b.txt`, or in `transcriptions/b.txt` beside its folder or
    in it.

    Args:
        folder: to be searched.
        speakers: whether the folder that a recording is in is named after its speaker.

    Raises:
        FileNotFoundError: there are no recordings, or only some of them have a transcript.
        ValueError: a file can't be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    paths = sorted(path for path in folder.absolute().rglob("*") if is_recording(path))
    if not paths:
        raise FileNotFoundError(f"{folder}: no recordings in it.")
    texts = {path: transcript_of(path) for path in paths}
    missing = [path for path, text in texts.items() if text is None]
    if missing and len(missing) < len(paths):
        raise FileNotFoundError(
            f"{missing[0]}: has no transcript, and neither have {len(missing) - 1} others of "
            f"{len(paths)} recordings."
        )

    def row(path: Path) -> Values:
        text = texts[path]
        own = {} if text is None else {"text": read_text(text, "transcript").strip()}
        own |= {"speaker": path.parent.name} if speakers else {}
        return {"audio_filepath": str(path), "duration": full_duration(path), **own}

    return collected(paths, row, folder.name)


def transcript_of(path: Path) -> Path | None:
    """The transcript of a recording in a folder, or None."""
    name = f"{path.stem}.txt"
    beside = path.with_name(name)
    folders = (path.parent, path.parent.parent)
    places = (beside, *(folder / "transcriptions" / name for folder in folders))
    return next((place for place in places if place.is_file()), None)


def rows_of_table(
    path: Path, audio: str | None = None, text: str | None = None, speaker: str | None = None
) -> list[Values]:
    """Rows of a CSV file, or a TSV file by its ending, with absolute paths.

    Only in CSV may cells be quoted; in TSV a quotation mark is a part of the text.

    Args:
        path: of the file; audio paths in it are relative to its folder.
        audio, text, speaker: names of columns; None: one of the usual names.

    Raises:
        FileNotFoundError: there is no such file, or a recording is missing.
        ValueError: a column or a cell is missing, or a row has too many cells.
    """
    is_tsv = path.suffix.lower() == ".tsv"
    lines = read_table(path, "\t" if is_tsv else ",", quoted=not is_tsv)
    check_columns(path, lines, tuple(name for name in (audio, text, speaker) if name))
    audio = audio or usual_column(lines[0], AUDIO_COLUMNS)
    text = text or usual_column(lines[0], TEXT_COLUMNS)
    speaker = speaker or usual_column(lines[0], SPEAKER_COLUMNS)
    if audio is None:
        names = ", ".join(name for name in lines[0] if name != "line")
        raise ValueError(f"{path}: no column for the audio; its columns are {names}.")

    def row(line: Values) -> Values:
        place = path.absolute().parent / cell(path, line, audio)
        own = {"audio_filepath": str(place), "duration": full_duration(place)}
        for key, column in (("text", text), ("speaker", speaker)):
            if column:
                own[key] = cell(path, line, column).strip()
        return own

    return collected(lines, row, path.name)


def usual_column(line: Values, names: tuple[str, ...]) -> str | None:
    """The first of some names that is a column of a table, or None."""
    return next((name for name in names if name in line), None)


def rows_of_kaldi(folder: Path, root: Path | None = None) -> list[Values]:
    """Rows of a Kaldi data folder: `wav.scp`, and `text`, `utt2spk` and `segments` if they exist.

    Args:
        folder: of the files.
        root: that relative paths start from; None: the working directory, or else the folder.

    Raises:
        FileNotFoundError: there is no wav.scp, or a recording is missing.
        ValueError: an audio file is given by a command, which is not executed; an utterance has
            no recording or text; or a segment is no part of its recording.
    """
    recordings = {
        name: audio_of(folder, name, value, root)
        for name, value in pairs(folder / "wav.scp").items()
    }
    texts, speakers, segments = (
        pairs(folder / name) if (folder / name).exists() else None
        for name in ("text", "utt2spk", "segments")
    )
    parts: dict[str, Part] = {name: (name, None) for name in recordings}
    if segments is not None:
        parts = {name: segment(folder, name, value) for name, value in segments.items()}

    def row(name: str) -> Values:
        recording, limits = parts[name]
        path = known(recordings, recording, folder / "wav.scp")
        own = {"audio_filepath": str(path), **part_of(folder, name, path, limits)}
        for key, values in (("text", texts), ("speaker", speakers)):
            if values is not None:
                source = folder / {"text": "text", "speaker": "utt2spk"}[key]
                own[key] = known(values, name, source)
        return own

    return collected(parts, row, folder.name)


def pairs(path: Path) -> dict[str, str]:
    """First word -> the rest of each line of a file of Kaldi that isn't empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has no rest, or a word comes first twice.
    """
    values: dict[str, str] = {}
    for number, line in read_lines(path, "file"):
        name, *rest = line.split(maxsplit=1)
        if not rest or name in values:
            reason = "a name that occurs twice" if name in values else "wanted a name and a value"
            raise ValueError(f"{path}, line {number}: {shown(line)}, {reason}.")
        values[name] = rest[0]
    if not values:
        raise ValueError(f"{path}: has no lines.")
    return values


def known(values: dict, name: str, source: Path) -> Any:
    """The value of a name in a file.

    Raises:
        ValueError: it has none.
    """
    if name not in values:
        raise ValueError(f"{source}: has no line for '{name}'.")
    return values[name]


def audio_of(folder: Path, name: str, value: str, root: Path | None = None) -> Path:
    """The absolute path of a recording in wav.scp.

    Args:
        folder: of wav.scp.
        name: of the recording.
        value: the rest of its line.
        root: that relative paths start from; None: the working directory, or else the folder.

    Raises:
        ValueError: it is a command.
    """
    if value.endswith("|") or value.startswith("|"):
        raise ValueError(
            f"{folder / 'wav.scp'}, {name}: {shown(value)} is a command, which is not executed; "
            "write its output to a file and name that."
        )
    path = Path(value)
    if root is not None:
        return (root / path).absolute()
    return (path if path.exists() else folder / path).absolute()


def segment(folder: Path, name: str, value: str) -> Part:
    """The recording of a segment, and its start and end in seconds.

    Raises:
        ValueError: the line has another form.
    """
    words = value.split()
    try:
        recording, start, end = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError):
        recording, start, end = "", -1.0, -1.0
    valid = is_finite(start) and is_finite(end) and start >= 0 and (end > start or end == -1)
    if len(words) != 3 or not valid:
        raise ValueError(
            f"{folder / 'segments'}, {name}: {shown(value)}, wanted a recording, start and end."
        )
    return recording, (start, end)


def part_of(
    folder: Path, name: str, path: Path, limits: tuple[float, float] | None
) -> dict[str, float]:
    """Duration of an utterance, and its offset if it is a segment, in seconds.

    Raises:
        ValueError: it ends after its recording.
    """
    whole = full_duration(path)
    if limits is None:
        return {"duration": whole}
    start, end = limits[0], whole if limits[1] == -1 else limits[1]
    if not start < end <= whole + 0.1:  # Kaldi rounds to hundredths, and allows for some more
        raise ValueError(
            f"{folder / 'segments'}, {name}: {start:g} to {end:g} s, but {path} lasts {whole:g} s."
        )
    return {"offset": start, "duration": round(min(end, whole) - start, 6)}


def rows_of_librispeech(folder: Path) -> list[Values]:
    """Rows of all chapters below a folder in the form of LibriSpeech, with absolute paths.

    Raises:
        FileNotFoundError: there are no transcripts, or the audio of one is missing.
        ValueError: a transcript can't be read.
    """
    transcripts = sorted(folder.absolute().rglob("*.trans.txt"))
    if not transcripts:
        raise FileNotFoundError(f"{folder}: no transcripts (*.trans.txt) in it.")
    chapters = collected(
        transcripts, lambda path: read_chapter(path, folder.absolute()), folder.name
    )
    return [
        values | {"audio_filepath": str(folder.absolute() / values["audio_filepath"])}
        for chapter in chapters
        for values in chapter
    ]


def placed(values: Values, folder: Path, source: Path = Path()) -> Values:
    """A row for a manifest in another folder.

    Args:
        values: of the row.
        folder: of the manifest; audio that lies in it, or the shard of it, gets a relative path,
            other an absolute one. The same holds for the `sources` of a mixture.
        source: that the paths are relative to now.
    """
    folder = folder.resolve()

    def place(given: str) -> str:
        path = source / given
        path = path.parent.resolve() / path.name  # a link keeps its name, by which ids are made
        own = path.relative_to(folder) if path.is_relative_to(folder) else path
        return own.as_posix()

    key = "audio_filepath" if values.get("shard") is None else "shard"
    if key == "shard" and is_url(values[key]):
        return values
    moved: Values = {key: place(values[key])}
    sources = values.get("sources")
    if isinstance(sources, list) and all(map(is_text, sources)):
        moved["sources"] = [place(path) for path in sources]
    return values | moved


def collected(given: Iterable, row: Callable[[Any], Any], title: str) -> list:
    """The row of each thing, with a progress bar."""
    items = list(given)
    return [row(one) for one in tqdm(items, desc=f"reading {title}", disable=None)]
