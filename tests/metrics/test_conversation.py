import pytest

from src.metrics.conversation import HYPOTHESES, CpWer, OrcWer, Recovered, TcpWer
from src.metrics.tracker import MetricTracker
from src.utils.segments import Segment


@pytest.mark.parametrize("kind", [CpWer, OrcWer, TcpWer, Recovered])
def test_recordings_without_transcripts_have_no_error_rates(kind, monkeypatch):
    monkeypatch.setattr("src.metrics.conversation.find_spec", lambda name: True)
    tracker = MetricTracker({"rate": kind()})
    batch = {f"{key}_segments": [[Segment("1", 0.0, 1.0, "a")]] for key in HYPOTHESES}
    assert tracker.update(id=["mixture"], skipped=0, **batch) == [{}]
    assert tracker.compute() == {}
