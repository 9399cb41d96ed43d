"""What a run that is resumed says of changed data, and how long it is."""

import json
from types import SimpleNamespace

import pytest

from src.trainer.resuming import check_data, count_steps, length_of
from src.trainer.settings import Settings

AMOUNT = {"hours": 1.5, "utterances": 7}


@pytest.mark.parametrize(
    ("kept", "now", "told"),
    [
        (json.dumps(AMOUNT), AMOUNT, ""),
        (json.dumps(AMOUNT), None, ""),
        (None, AMOUNT, ""),
        ("{damaged", AMOUNT, ""),
        ("[]", AMOUNT, ""),
        (json.dumps(AMOUNT), AMOUNT | {"utterances": 8}, "7 utterances, 1.5 h -> 8 utterances"),
        (json.dumps(AMOUNT), AMOUNT | {"hours": 1.6}, "1.5 h -> 7 utterances, 1.6 h"),
    ],
)
def test_changed_data_are_named(tmp_path, caplog, kept, now, told):
    if kept is not None:
        (tmp_path / "data.json").write_text(kept)
    check_data(tmp_path, now)
    assert bool(caplog.text) == bool(told) and told in caplog.text


def state_of(settings, loader, step, epoch, step_in_epoch):
    """Of a checkpoint, as far as the length of the run follows from it."""
    length = length_of(settings, loader, count_steps(settings, loader))
    return {"length": length, "step": step, "epoch": epoch, "step_in_epoch": step_in_epoch}


def test_another_number_of_steps_in_an_epoch_counts_those_that_are_done():
    loader = SimpleNamespace(batches_in_step=1, plan=lambda epochs: [7] * epochs)
    loader.steps = loader.steps_left = lambda epoch: 7
    for before, after, expected in (
        (100, 100, 400),
        (100, 50, 130 + 20 + 2 * 50),
        (100, 20, 130 + 2 * 20),  # this epoch is over
        (100, 300, 130 + 270 + 2 * 300),
        (None, 50, 130 + 20 + 2 * 50),
    ):
        begun = Settings(epochs=4, steps_per_epoch=before)
        state = state_of(begun, loader, step=130, epoch=1, step_in_epoch=30)
        resumed = Settings(epochs=4, steps_per_epoch=after)
        assert count_steps(resumed, loader, state) == expected
    longer = Settings(epochs=5, steps_per_epoch=100)
    state = state_of(Settings(epochs=4, steps_per_epoch=100), loader, 130, 1, 30)
    assert count_steps(longer, loader, state) == 500
    with pytest.raises(ValueError, match="trainer.steps_per_epoch: null; a number, as the run has"):
        count_steps(Settings(epochs=4), loader, state)
