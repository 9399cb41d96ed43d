"""What the page of a separation shows: scores over the mixture's, permutations, silence."""

from collections import Counter, defaultdict
from typing import Any

from src.utils.sections import Chart, Section, Table

Row = dict[str, Any]


def mixture_scores(rows: list[Row]) -> list[tuple[float, float]]:
    """(SI-SDR of the mixture, SI-SDRi) in dB of each row that has both scores."""
    scored = [row for row in rows if "SI-SDR" in row and "SI-SDRi" in row]
    return [(row["SI-SDR"] - row["SI-SDRi"], row["SI-SDRi"]) for row in scored]


def reference_details(batch: dict[str, Any]) -> list[Row]:
    """Permutation and silent references of each mixture with references.

    Args:
        batch: `permutation` [B, S] and `sources` [B, S, T].

    Returns:
        `permutation`, the model's output for each reference as text like `2 1`, and
        `silent_references`, their number.
    """
    silent = (batch["sources"].abs().amax(-1) == 0).sum(1).tolist()
    permutations = (batch["permutation"] + 1).tolist()
    return [
        {"permutation": " ".join(map(str, permutation)), "silent_references": count}
        for permutation, count in zip(permutations, silent, strict=True)
    ]


def separation_sections(rows: list[Row]) -> list[Section]:
    """SI-SDRi over the mixture's SI-SDR, permutations and silence, as far as they are known."""
    sections: list[Section] = []
    points = mixture_scores(rows)
    if points:
        sections.append(
            Chart("SI-SDRi", "SI-SDR of the mixture in dB", "SI-SDRi in dB", {"mixtures": points})
        )
    if any("permutation" in row for row in rows):
        sections.append(permutation_table(rows))
    if any("active_1" in row for row in rows):
        sections.append(silence_table(rows))
    return sections


def permutation_table(rows: list[Row]) -> Table:
    """How often each permutation was the best, with the mean SI-SDRi."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "permutation" in row:
            groups[row["permutation"]].append(row)
    table = [[name, len(own), mean_score(own)] for name, own in sorted(groups.items())]
    note = "The model's output that belongs to each reference, in their order."
    return Table("Permutations", ["permutation", "mixtures", "mean SI-SDRi in dB"], table, note)


def mean_score(rows: list[Row]) -> float | None:
    """Mean SI-SDRi in dB of the rows that have one; None if there are none."""
    scores = [row["SI-SDRi"] for row in rows if "SI-SDRi" in row]
    return round(sum(scores) / len(scores), 2) if scores else None


def silence_table(rows: list[Row]) -> Table:
    """How many estimates and references of each mixture are silent."""
    counts: Counter[tuple[int, Any]] = Counter()
    for row in rows:
        active = [row[column] for column in row if column.startswith("active_")]
        counts[len(active) - sum(active), row.get("silent_references")] += 1
    table = [[*key, number] for key, number in counts.most_common()]
    columns = ["silent estimates", "silent references", "mixtures"]
    return Table("Silence", columns, table, "An estimate is silent where it is not active.")
