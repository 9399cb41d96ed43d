"""Text files and tables of corpora, with errors that name file and line."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.utils.audio_files import MAX_SECONDS, check_file
from src.utils.options import has_surrogates, shown


def read_text(path: Path, name: str = "text file") -> str:
    """The text of a file.

    Args:
        path: of the file.
        name: what it should be, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or isn't UTF-8.
    """
    check_file(path, name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8.") from None


def read_lines(path: Path, name: str = "text file") -> Iterator[tuple[int, str]]:
    """The lines of a file that aren't empty, with their numbers from 1.

    Args:
        path: of the file.
        name: what it should be, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or isn't UTF-8.
    """
    check_file(path, name)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8.") from None


def read_table(path: Path, delimiter: str, quoted: bool = True) -> list[dict]:
    """The rows of a table with a header, each with its line number under the key `line`.

    Args:
        path: of the file.
        delimiter: between cells.
        quoted: whether a cell may be in double quotes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a table, e.g. a quote isn't closed, or a row has more cells than the
            table has columns.
    """
    return list(iterate_table(path, delimiter, quoted))


def iterate_table(
    path: Path, delimiter: str, quoted: bool = True, columns: tuple[str, ...] | None = None
) -> Iterator[dict]:
    """The rows of a table one by one, as of `read_table`.

    Args:
        path: of the file.
        delimiter: between cells.
        quoted: whether a cell may be in double quotes.
        columns: their names, if the table has no header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a table, e.g. a quote isn't closed, or a row has more cells than the
            table has columns.
    """
    check_file(path, "table")
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    last = 0  # line that was read well; 0: none
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(
                file, columns, delimiter=delimiter, quoting=quoting, strict=True
            )
            last = reader.line_num if reader.fieldnames else 0  # of the header, if there is one
            for row in reader:
                last = reader.line_num
                more = row.pop(None, [])  # where DictReader puts the cells of no column
                if any(more):
                    raise ValueError(
                        f"{path}, line {last}: {len(more)} cells more than columns; the first "
                        f"is {shown(more[0])}."
                    )
                yield row | {"line": last}
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8.") from None
    except csv.Error as error:
        reason = "a quote that isn't closed" if "end of data" in str(error) else error
        raise ValueError(f"{path}, after line {last}: not a table ({reason}).") from None


def cell(path: Path, row: dict, column: str, may_be_empty: bool = False) -> str:
    """The value of a cell.

    Args:
        path: of the table, for the message.
        row: of `read_table`.
        column: which cell.
        may_be_empty: whether an empty one is allowed.

    Raises:
        ValueError: it is missing or empty; names the file, the line and the column.
    """
    value = row.get(column)
    if not isinstance(value, str) or not (value or may_be_empty) or has_surrogates(value):
        raise ValueError(f"{path}, line {row['line']}: {column} is {shown(value)}, wanted a text.")
    return value


def seconds(path: Path, number: int, value: str) -> float:
    """A number of seconds in a line of a file.

    Raises:
        ValueError: it is no number from 0 on; names the file and the line.
    """
    try:
        time = float(value)
    except ValueError:
        time = -1.0
    if not 0 <= time <= MAX_SECONDS:
        raise ValueError(f"{path}, line {number}: {shown(value)}, wanted a number of seconds.")
    return time


def check_columns(path: Path, rows: list[dict], columns: tuple[str, ...]) -> None:
    """Raise unless a table has rows, and some columns.

    Raises:
        ValueError: it has none, or lacks a column; names it.
    """
    if not rows:
        raise ValueError(f"{path}: has no rows.")
    for column in columns:
        if column not in rows[0]:
            raise ValueError(f"{path}: no column {column}.")
