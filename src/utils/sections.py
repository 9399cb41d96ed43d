"""What a page about an evaluation shows besides its utterances: tables and charts."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table with a title.

    Attributes:
        title: above the table.
        columns: their names.
        rows: one value for each column: text, a number or None.
        note: what a reader must know about it.
    """

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Points in a plane, with a title.

    Attributes:
        title: above the chart.
        xlabel, ylabel: of the axes, with units.
        series: name -> points (x, y); those that aren't finite are left out.
        lines: whether the points of a series are joined.
    """

    title: str
    xlabel: str
    ylabel: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lines: bool = False


Section = Table | Chart
