"""Text in columns, for terminals."""

from collections.abc import Sequence


def in_columns(lines: Sequence[Sequence[str]], narrowest: int = 0) -> str:
    """Lines whose cells stand below each other.

    Args:
        lines: cells of each line, the same number in all.
        narrowest: characters of a column at least.
    """
    widths = [max(narrowest, *map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
