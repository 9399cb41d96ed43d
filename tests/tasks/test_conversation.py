import numpy as np
import pytest

from src.tasks.conversation import ConversationTask, clock, segments_of
from src.text_encoder.alignment import Word
from src.utils.segments import Segment

BLOCK = 0.01


def powers(*spans, count=1000):
    """Mean squares of a voice: spans of (start, end, dB)."""
    found = np.zeros(count)
    for start, end, level in spans:
        found[round(start / BLOCK) : round(end / BLOCK)] = 10 ** (level / 10)
    return found


def spoken(*voices, **options):
    return ConversationTask(16000, **options).spoken(np.stack(voices), BLOCK)


def test_parts_in_which_voices_speak():
    one, two = spoken(powers((1, 3, -20), (3.5, 5, -25), (8, 9, -20)), powers((4, 6, -22)))
    assert one == [pytest.approx((1, 5)), pytest.approx((8, 9))], "a short pause splits nothing"
    assert two == [pytest.approx((4, 6))]
    assert spoken(powers(), powers(count=1000)) == [[], []]
    assert spoken(np.zeros(0)) == [[]]
    assert spoken(powers((0, 0.05, -20), count=5)) == [[]]


def test_leaking_voices_do_not_speak():
    voices = powers((1, 3, -20)), powers((1, 3, -40), (5, 7, -25))
    assert spoken(*voices)[1] == [pytest.approx((5, 7))]
    assert len(spoken(*voices, leakage_db=None)[1]) == 2
    assert len(spoken(*voices, leakage_db=-30.0)[1]) == 1
    for lead in (-30.0, None):
        assert len(spoken(*voices, leakage_db=-30.0, lead_db=lead)[1]) == 2
    near = powers((1, 3, -20), (3, 4, -60)), powers((1, 3, -23), (3, 4, -25))
    assert spoken(*near)[1] == [pytest.approx((1, 4))], "it's alone in the end"
    assert spoken(near[0], powers((1, 3, -23)))[1] == [], "never is it alone"
    quiet = powers((1, 3, -20), (5, 7, -55))
    assert len(spoken(quiet, quiet_db=-30.0)[0]) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_the_strongest_voice_of_a_stretch_speaks(count):
    equal = [powers((1, 8, -20))] * count
    assert spoken(*equal) == [[pytest.approx((1, 8))]] * count
    rest = [powers((1, 8, -24)) for _ in range(count - 1)]
    assert spoken(powers((1, 8, -20)), *rest) == [[pytest.approx((1, 8))], *[[]] * (count - 1)]
    turns = np.arange(count)[:, None] == (np.arange(1000) // 200) % count
    voices = spoken(*np.where(turns, 0.01, 0.001))  # each is never 10 dB above what leaks into it
    assert all(voices), "each has turns"


def test_where_a_voice_is_alone():
    voices = powers((1, 6, -20)), powers((2, 3, -30), (4, 5, -24))
    task = ConversationTask(16000)
    alone = task.alone(np.stack(voices), BLOCK)
    wanted = powers((1, 4, 0), (5, 6, 0)) > 0
    changed = np.flatnonzero(alone[0] != wanted) * BLOCK
    assert all(min(abs(second - edge) for edge in (1, 4, 5, 6)) < 0.1 for second in changed)
    assert not alone[1].any()
    task.alone_db = None
    assert not task.alone(np.stack(voices), BLOCK).any()
    assert task.alone(np.zeros((2, 0)), BLOCK).shape == (2, 0)


def test_margins_hold_sound_only():
    noise = np.full(1000, 1e-6) + powers((2, 3, -20))
    assert spoken(noise) == [[pytest.approx((1.83, 3.17), abs=0.02)]]
    assert spoken(powers((2, 3, -20))) == [[pytest.approx((2, 3))]]


def test_segments_end_at_pauses():
    words = [Word("a", 0.0, 0.5, 1.0), Word("b", 0.6, 1.0, 1.0), Word("c", 2.0, 2.50004, 1.0)]
    utterances = list(ConversationTask(16000).utterances(words))
    segments = [one for one, _ in segments_of({2: utterances, 1: [[Word("d", 0.1, 0.2, 1)]]})]
    assert segments == [
        Segment("2", 0.0, 1.0, "a b"),
        Segment("1", 0.1, 0.2, "d"),
        Segment("2", 2.0, 2.5, "c"),
    ]


def test_clock():
    assert clock(3725.126) == "1:02:05.13" and clock(59.999) == "0:01:00.00"
