"""The output folder of inference, in which other files are never touched."""

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from src.report.page import AUDIO, PAGE
from src.trainer.output_marker import OutputMarker
from src.utils.files import remove_temporary_files

MARKER = ".inference.json"
RESULTS = "evaluations.tsv"
COMMON = ("log.txt", "metrics.json", RESULTS, PAGE)  # files of all evaluations together
NAME = re.compile(r"[^./\\\0][^/\\\0]*")


class OutputFolder:
    """A folder with a marker file that lists what inference wrote into it.

    Only listed files are replaced or removed, and links are never followed. The files of an
    evaluation are collected in a hidden folder, and moved to `<name>/` when it is complete.

    Args:
        path: of the folder; may contain other files.
    """

    def __init__(self, path: Path):
        self.path = path
        self.marker = OutputMarker(path / MARKER)

    def start(self, names: list[str]) -> None:
        """Check the names of all evaluations, then remove what a killed inference left.

        Raises:
            FileExistsError: something that inference did not write is in the way.
            ValueError: a name is no file name, or two would be written to the same file.
        """
        check_names(names)
        self.check_free(COMMON)
        for name in [*names, *(f"{AUDIO}/{name}" for name in names)]:
            self.check_free([*tables(name), *self.earlier(name)])
            folder = self.locate(name)
            mine = any(file.startswith(f"{name}/") for file in self.marker.files)
            filled = any(not path.is_dir() for path in folder.rglob("*"))
            if (folder.exists() and not folder.is_dir()) or (filled and not mine):
                raise conflict(folder)
        for left in self.marker.unfinished:
            shutil.rmtree(self.locate(left), ignore_errors=True)
        self.marker.unfinished.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(self.path)
        self.claim("log.txt")

    def begin(self) -> Path:
        """Create a hidden folder for the files of an evaluation, to be given to `finish`."""
        folder = self.path / f".unfinished-{uuid.uuid4().hex}"
        self.marker.unfinished.add(folder.name)
        self.marker.write()
        folder.mkdir()
        return folder

    def finish(self, name: str, new: Path) -> None:
        """Replace the files of an earlier evaluation of this name by those in a hidden folder.

        Raises:
            FileExistsError: something that inference did not write is in the way; nothing changed.
        """
        files = [path for path in sorted(new.rglob("*")) if path.is_file()]
        saved = {f"{name}/{path.relative_to(new).as_posix()}": path for path in files}
        earlier = self.earlier(name)
        self.check_free([*tables(name), *earlier, *saved])
        for file in earlier:
            (self.path / file).unlink(missing_ok=True)
        self.marker.files = (self.marker.files - earlier) | saved.keys()
        self.marker.write()
        (self.path / name).mkdir(parents=True, exist_ok=True)
        for file, path in saved.items():
            (self.path / file).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self.path / file)
        shutil.rmtree(new)
        self.marker.unfinished.discard(new.name)
        self.marker.write()

    def claim(self, name: str) -> Path:
        """Path of a file to write directly into the folder; adds it to the list.

        Raises:
            FileExistsError: it exists and is not listed.
        """
        self.check_free([name])
        self.marker.files.add(name)
        self.marker.write()
        return self.path / name

    def discard(self, name: str) -> None:
        """Remove a listed file directly in the folder, if it is there.

        Raises:
            FileExistsError: it exists and is not listed.
        """
        self.check_free([name])
        (self.path / name).unlink(missing_ok=True)

    def earlier(self, name: str) -> set[str]:
        """The listed files of an earlier evaluation of this name."""
        own = {file for file in self.marker.files if file.startswith(f"{name}/")}
        return own | (self.marker.files & set(tables(name)))

    def check_free(self, names: Iterable[str]) -> None:
        """Check that files to be written either don't exist or were written by inference.

        Raises:
            FileExistsError: one exists and is not listed, or is a folder.
        """
        for name in names:
            path = self.locate(name)
            if path.is_dir() or (os.path.lexists(path) and name not in self.marker.files):
                raise conflict(path)

    def locate(self, name: str) -> Path:
        """Path of a file or subfolder, which lies in this folder.

        Raises:
            FileExistsError: it or a folder above it is a link, or a file is in place of a folder.
        """
        path = self.path / name
        above = [self.path / part for part in Path(name).parents if part.name]
        for folder in above:
            if os.path.lexists(folder) and not folder.is_dir():
                raise conflict(folder)
        for place in (*above, path):
            inside = place.parent.resolve().is_relative_to(self.path.resolve())
            if place.is_symlink() or not inside:
                raise conflict(place)
        return path


def tables(name: str) -> list[str]:
    """The files of an evaluation beside its folder."""
    return [f"{name}.tsv", f"{name}.png", f"{name}.yaml"]


def check_names(names: list[str]) -> None:
    """Check that evaluations can be written side by side.

    Raises:
        ValueError: a name is no file name, or two would be written to the same file.
    """
    taken = {file: file for file in (*COMMON, AUDIO)}
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"evaluate_on: '{name}' can't be the name of a folder.")
        for file in (name, *tables(name)):
            other = taken.setdefault(file.casefold(), name)
            if other != name or file in (*COMMON, AUDIO):
                raise ValueError(f"evaluate_on: '{name}' and '{other}' would both write {file}.")


def conflict(path: Path) -> FileExistsError:
    """The error for something in the way."""
    return FileExistsError(
        f"{path}: exists and wasn't written by an inference; choose another output=."
    )
