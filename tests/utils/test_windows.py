import numpy as np
import pytest
import torch

from src.utils.windows import Windows, best_cut, frame_stride, outputs_of

RATE, STRIDE = 1000, 10


def silent(output, frames):
    return output.new_zeros(frames, output.shape[1])


def windows(size=4000, overlap=1000, silence=0.0):
    return Windows(size, overlap, STRIDE, RATE, silence, silent)


def frames_of(audio):
    """A model without context: frame i is its first sample, twice."""
    return audio[::STRIDE, None].repeat(1, 2)


def heard(plan, audio):
    return [frames_of(window) for group in plan.groups(audio) for window in group]


@pytest.mark.parametrize("size", [1, 3999, 4000, 4001, 4011, 7000, 7001, 12345, 100_003])
def test_every_frame_exactly_once(size):
    audio = torch.arange(float(size))
    plan = windows()
    joined = plan.join(heard(plan, audio), audio)
    assert torch.equal(joined, frames_of(audio))


@pytest.mark.parametrize("size", [4001, 6991, 7000, 7001, 50_000])
def test_windows_are_even_and_overlap(size):
    starts = windows().starts(size)
    assert starts[0] == 0 and all(start % STRIDE == 0 for start in starts)
    assert max(np.diff(starts)) <= 3000 and 4000 - STRIDE < size - starts[-1] <= 4000


def test_local_model_says_the_same_as_about_the_whole():
    net = torch.nn.Conv1d(1, 3, 41, stride=STRIDE, padding=20).double()
    audio = torch.randn(23_456, generator=torch.Generator().manual_seed(0)).double()

    def model(signal):
        return net(signal[None, None])[0].T.log_softmax(-1)

    plan = windows()
    parts = [model(window) for group in plan.groups(audio) for window in group]
    with torch.no_grad():
        torch.testing.assert_close(plan.join(parts, audio), model(audio))


def test_cut_lies_where_windows_agree():
    left = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    right = -left
    right[30:42] = left[30:42]
    assert 34 <= best_cut(left, right) <= 38
    assert best_cut(left, left) == 50


def test_silence_is_filled_in():
    sound = 0.1 * torch.ones(1000)
    audio = torch.cat([torch.zeros(700), sound, torch.zeros(300), sound, torch.zeros(2000)])
    audio = torch.cat([audio, sound[:300], torch.zeros(30), sound])
    plan = windows(silence=0.01)
    assert plan.sounds(audio) == [(700, 1700), (2000, 3000), (5000, 6330)]
    assert plan.sounds(audio[:4000]) == [(0, 4000)]
    joined = plan.join(heard(plan, audio), audio)
    assert torch.equal(joined, frames_of(audio))


@pytest.mark.parametrize("size", [1500, 9000])
def test_silence_before_the_only_sound_is_filled_in(size):
    audio = torch.cat([torch.zeros(3000), 0.1 * torch.ones(size)])
    plan = windows(silence=0.01)
    assert plan.sounds(audio) == [(3000, 3000 + size)]
    assert torch.equal(plan.join(heard(plan, audio), audio), frames_of(audio))


def test_short_sounds_are_not_split_off():
    audio = torch.zeros(6000)
    audio[1000:1100] = audio[2000:3000] = audio[4000:4100] = 0.1
    assert windows(silence=0.01).sounds(audio) == [(1000, 4100)]
    assert windows(silence=0.01).sounds(torch.zeros(6000)) == [(0, 6000)]


def test_quiet_recordings_are_run_whole():
    audio = torch.full((6000,), 1e-3)
    assert windows(silence=0.01).sounds(audio) == [(0, 6000)]
    audio[:3000] = 1e-2
    assert windows(silence=0.02).sounds(audio) == [(0, 6000)]


def test_a_click_before_a_long_silence_is_split_off():
    audio = torch.zeros(20_000)
    audio[100:200] = audio[15_000:18_000] = 0.1
    assert windows(silence=0.01).sounds(audio) == [(100, 200), (15_000, 18_000)]


def test_gap_between_windows_is_an_error():
    plan = windows(overlap=20)
    audio = torch.ones(9000)
    parts = [part[:200] for part in heard(plan, audio)]
    with pytest.raises(ValueError, match=r"task.overlap_seconds: too short for this model"):
        plan.join(parts, audio)


def test_stride():
    assert frame_stride(lambda n: (n // 160 + 1 - 1) // 4 + 1, 16000) == 640
    assert frame_stride(lambda n: (n // 160 - 11) // 2 + 1, 16000) == 320
    assert frame_stride(lambda n: np.sqrt(n).astype(int), 16000) is None
    assert frame_stride(lambda n: 0 * n, 16000) is None


def test_a_rest_shorter_than_a_block():
    audio = torch.cat([torch.full((60_000,), 0.1), torch.full((3,), 0.1)])
    assert windows(silence=0.01).sounds(audio) == [(0, 60_003)]


def test_outputs_to_be_joined():
    batch = {"x": torch.ones(2, 5, 3), "x_length": torch.tensor([5, 2])}
    assert [len(one) for one in outputs_of(batch, "x")] == [5, 2]
    with pytest.raises(ValueError, match="the model has no log_probs to be joined; set null"):
        outputs_of(batch, "log_probs")
