import math

import pytest
import torch

from src.metrics.separation import SiSdr
from src.metrics.speaker_count import SilentLevel, SpeakerCountAccuracy
from src.metrics.tracker import MetricTracker
from src.system import System
from src.tasks.separation import SeparationTask

RATE = 8000


class Fixed(torch.nn.Linear):
    """Returns given estimates, in reverse; has a parameter, whose device is that of the model."""

    def __init__(self, estimates):
        super().__init__(1, 1)
        self.estimates = estimates

    def forward(self, audio, **_):
        return {"estimates": self.estimates.flip(1)}


def mixtures():
    """Three items with one, two and three voices of RMS 0.1; the last one is shorter."""
    sources = 0.1 * torch.randn(3, 3, 4000, generator=torch.Generator().manual_seed(0))
    sources[0, 1:], sources[1, 2:], sources[2, :, 3000:] = 0, 0, 0
    length = torch.tensor([4000, 4000, 3000])
    names = ["a", "b", "c"]
    batch = {"id": names, "audio": sources.sum(1), "audio_length": length, "skipped": 0}
    return batch | {"errors": [], "sources": sources, "sources_length": length}


def evaluated(batch, estimates, **options):
    metrics = {
        "SI-SDR": SiSdr(by_number=True),
        "count": SpeakerCountAccuracy(),
        "level": SilentLevel(),
    }
    tracker = MetricTracker(metrics)
    task = SeparationTask(RATE, output_level="model", **options)
    batch = System(Fixed(estimates), task, sample_rate=RATE).evaluation_step(batch)
    return tracker.update(**batch), batch["rows"], tracker.compute()


def test_right_numbers_and_levels_of_silence():
    batch = mixtures()
    estimates = batch["sources"].clone()
    estimates[0, 1:] = 0.01 * batch["sources"][1, :2]  # 40 dB below the mixture
    estimates[1, 2] = 0.1 * batch["audio"][1]  # 20 dB below it
    estimates[2, :, 3000:] = 7.0  # beyond the end, and of no matter
    scores, rows, values = evaluated(batch, estimates, active_db=-30.0)
    assert [row["num_speakers"] for row in rows] == [1, 2, 3]
    assert [row["num_active"] for row in rows] == [1, 3, 3]
    assert [row["count"] for row in scores] == [1, 0, 1]
    assert values["count"] == pytest.approx(2 / 3)
    assert (values["count_1"], values["count_2"], values["count_3"]) == (1, 0, 1)
    assert scores[0]["level"] == pytest.approx(-40, abs=0.3)
    assert scores[1]["level"] == pytest.approx(-20, abs=1e-4)
    assert "level" not in scores[2] and "level_3" not in values
    assert values["level"] == pytest.approx((scores[0]["level"] + scores[1]["level"]) / 2)
    assert values["SI-SDR_1"] > 60, "a single voice is preserved"
    assert evaluated(batch, estimates, active_db=-15.0)[2]["count"] == 1
    assert evaluated(batch, estimates, active_db=-50.0)[2]["count_1"] == 0


def test_silent_outputs_and_mixtures():
    batch = mixtures()
    _, rows, values = evaluated(batch, batch["sources"])
    assert values["count"] == 1 and values["level"] == -80
    batch["sources"][0], batch["audio"][0] = 0, 0
    scores, _, values = evaluated(batch, batch["sources"])
    assert "level" not in scores[0] and values["count_0"] == 1
    assert all(math.isfinite(value) for value in values.values())


def test_scores_do_not_depend_on_the_batch():
    batch = mixtures()
    estimates = batch["sources"] + 0.02 * torch.randn(3, 3, 4000)
    together, *_ = evaluated(batch, estimates)
    for i, size in enumerate(batch["audio_length"].tolist()):
        alone = {
            key: value[i : i + 1, ..., :size] if key in ("audio", "sources") else value[i : i + 1]
            for key, value in batch.items()
            if key not in ("skipped", "errors")
        }
        own = evaluated(alone | {"skipped": 0, "errors": []}, estimates[i : i + 1, :, :size])
        assert own[0][0] == pytest.approx(together[i], abs=1e-4)


def test_more_outputs_than_sources():
    batch = mixtures()
    expected = evaluated(batch, batch["sources"] + 0.01)
    two = {key: value[:2] for key, value in batch.items() if key not in ("skipped", "errors")}
    two |= {"sources": two["sources"][:, :2], "skipped": 0, "errors": []}
    scores, rows, _ = evaluated(two, batch["sources"][:2] + 0.01)
    assert scores == expected[0][:2] and rows == expected[1][:2]
    with pytest.raises(ValueError, match="separates 2 speakers .*the data have 3"):
        evaluated(batch, batch["sources"][:, :2])
