"""Geometry of charts, which a template draws as SVG."""

import math
from collections import defaultdict
from typing import Any

from src.utils.sections import Chart

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 40  # margins
MOST_POINTS = 2000  # of a joined series
COLOURS = 6

Point = tuple[float, float]


def layout(chart: Chart) -> dict[str, Any] | None:
    """What the template needs of a chart; None if no point is finite.

    Returns:
        `chart`; `size`; `xticks` and `yticks`, lists of (position, label); `plot`, the corners of
        the plot; `series`, a list of (name, number of its colour, the `d` of its path).
    """
    series = {name: finite(points) for name, points in chart.series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    xrange, yrange = widened(min(xs), max(xs)), widened(min(ys), max(ys))

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - xrange[0]) / (xrange[1] - xrange[0]) * (WIDTH - LEFT - RIGHT)
        y = TOP + (yrange[1] - point[1]) / (yrange[1] - yrange[0]) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    return {
        "chart": chart,
        "size": (WIDTH, HEIGHT),
        "plot": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "xticks": [(place((x, yrange[0]))[0], f"{x:.6g}") for x in ticks(*xrange)],
        "yticks": [(place((xrange[0], y))[1], f"{y:.6g}") for y in ticks(*yrange)],
        "series": [
            (name, number % COLOURS, path([place(point) for point in points], chart.lines))
            for number, (name, points) in enumerate(series.items())
        ],
    }


def finite(points: list[Point]) -> list[Point]:
    """The points whose coordinates are finite."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def widened(low: float, high: float) -> Point:
    """A range with a margin; around a single value, one of a size above 0."""
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float) -> list[float]:
    """Round values in a range, four to ten of them."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 4)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [step * k for k in range(first, last + 1)]


def path(points: list[Point], lines: bool) -> str:
    """The `d` of one path: joined points, or dots (round ends of lines without length).

    A single point of joined ones is a short dash.
    """
    if lines and len(points) == 1:
        return f"M{points[0][0] - 4} {points[0][1]}h8"
    if not lines:
        return "".join(f"M{x} {y}h0" for x, y in points)
    stride = -(-len(points) // MOST_POINTS)
    return "M" + "L".join(f"{x} {y}" for x, y in points[::stride])


def curves(rows: list[dict[str, Any]]) -> list[Chart]:
    """One chart for each metric that changes in a training: its curve in each evaluation.

    Args:
        rows: of metrics.jsonl: `step`, and `<evaluation>/<metric>` -> value.
    """
    charts: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        numbers = {key: float(value) for key, value in row.items() if is_number(value)}
        for key, value in numbers.items():
            name, slash, metric = key.partition("/")
            if slash and "step" in numbers:
                charts[metric][name].append((numbers["step"], value))
    return [
        Chart(metric, "step", metric, dict(series), lines=True)
        for metric, series in charts.items()
        if any(len({y for _, y in points}) > 1 for points in series.values())
    ]


def is_number(value: Any) -> bool:
    """Whether a value is a number, but no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
