"""Reports for the tests of the page."""

from src.report.page import EvaluationReport
from src.utils.sections import Chart, Table

EVIL = "</script><!-- <img src=x onerror=alert(1)> \"'{{ 7*7 }}&\u2028"


def evil_report():
    """All of whose texts try to be markup."""
    row = {"id": EVIL, EVIL: EVIL, "speaker": EVIL, "words": [[EVIL, 0.0, 1.0]], "seconds": 1.0}
    row |= {"target": EVIL, "prediction": EVIL, "picture": EVIL}
    row["audio"] = [{"title": EVIL, "file": EVIL, "spectrogram": EVIL}]
    alignments = [{"prediction": [["substitute", EVIL, EVIL]]}]
    sections = [
        Table(EVIL, [EVIL, "count"], [[EVIL, 1]], EVIL),
        Chart(EVIL, EVIL, EVIL, {EVIL: [(0.0, 1.0), (1.0, 2.0)], "other": [(0.0, 0.0)]}, True),
    ]
    return EvaluationReport(EVIL, {EVIL: 1.0}, (), [row], alignments, sections, "report_audio/x/")


def large_report(count):
    """An evaluation of many utterances, of twenty words each."""
    text = " ".join(f"word{k}" for k in range(20))
    rows = [
        {
            "id": f"utterance_{i}",
            "WER": (count - i) / count,
            "target": text,
            "prediction": f"{text} {i}",
            "seconds": 5.0 + i % 7,
            "speaker": f"s{i % 40}",
        }
        for i in range(count)
    ]
    aligned = [[["equal", text, text], ["insert", "", f"{i}"]] for i in range(count)]
    alignments = [{"prediction": chunks} for chunks in aligned]
    points = [(row["seconds"], row["WER"]) for row in rows]
    table = Table("Speakers", ["speaker", "WER"], [[f"s{k}", k / 40] for k in range(40)])
    chart = Chart("WER", "seconds", "WER", {"utterances": points})
    return EvaluationReport("test", {"WER": 0.5}, (), rows, alignments, [table, chart], "none/")
