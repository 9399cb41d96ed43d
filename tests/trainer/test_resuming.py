"""What a run that is resumed says of changed data."""

import json

import pytest

from src.trainer.resuming import check_data

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
