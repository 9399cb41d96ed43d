import json

import pytest
import torch

from src.transforms.wave.noisy_speech import (
    NoisySpeech,
    Segment,
    gather_segments,
    place_pieces,
    split_length,
)
from src.utils.random import generator
from tests.demo import sine

LENGTHS = [16000, 12000, 9000, 4000]


def batch(seed=0, silent=False):
    draw = torch.Generator().manual_seed(1)
    audio = torch.zeros(4, 16000)
    for row, length in zip(audio, LENGTHS, strict=True):
        row[:length] = 0 if silent else 0.1 * torch.randn(length, generator=draw)
    return {
        "audio": audio,
        "audio_length": torch.tensor(LENGTHS),
        "seed": torch.arange(4) + seed,
        "speaker": ["a", "a", "b", "c"],
    }


@pytest.fixture
def noises(tmp_path):
    for i, seconds in enumerate((0.2, 2.0)):
        sine(tmp_path / f"{i}.wav", seconds=seconds)
    rows = [{"audio_filepath": f"{i}.wav", "duration": d} for i, d in enumerate((0.2, 2.0))]
    (tmp_path / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "noise.jsonl")


def changed_part(clean, noisy):
    where = (noisy != clean).nonzero()[:, 0]
    return int(where.min()), int(where.max()) + 1


def test_clean_audio_and_lengths_are_unchanged(noises):
    given = batch()
    before = given["audio"].clone()
    result = NoisySpeech(noises, p=1.0)(**given)
    assert torch.equal(given["audio"], before)
    assert torch.equal(result["noisy_audio_length"], given["audio_length"])
    for i, length in enumerate(LENGTHS):
        start, end = changed_part(before[i], result["noisy_audio"][i])
        assert 0 <= start < end <= length
        assert end - start == pytest.approx(length / 2, abs=5)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_energy_ratio_over_utterance(noises, fraction):
    options = {
        "min_noise_snr_db": 3.0,
        "max_noise_snr_db": 3.0,
        "min_speech_snr_db": -2.0,
        "max_speech_snr_db": -2.0,
    }
    given = batch()
    result = NoisySpeech(noises, p=1.0, noise_fraction=fraction, **options)(**given)
    added = result["noisy_audio"] - given["audio"]
    ratio = 10 * torch.log10(given["audio"].square().sum(1) / added.square().sum(1))
    torch.testing.assert_close(
        ratio, torch.full((4,), 3.0 if fraction else -2.0), atol=1e-3, rtol=0
    )


def test_interfering_speech_is_of_another_speaker():
    given = batch()
    result = NoisySpeech(None, p=1.0, min_speech_snr_db=0.0, max_speech_snr_db=0.0)(**given)
    added = result["noisy_audio"] - given["audio"]
    for i, speaker in enumerate(given["speaker"]):
        start, end = changed_part(given["audio"][i], result["noisy_audio"][i])
        piece = added[i, start:end] / added[i, start:end].norm()
        best = {j: max(matches(piece, given["audio"][j, : LENGTHS[j]])) for j in range(4) if j != i}
        source = max(best, key=best.get)
        assert best[source] > 0.99
        assert given["speaker"][source] != speaker


def matches(piece, other):
    """Likeness of a piece and every stretch of another recording, which may be shorter."""
    if len(other) < len(piece):
        other = other.repeat(-(-len(piece) // len(other)) + 1)
    windows = other.unfold(0, len(piece), 1)
    yield from ((windows @ piece) / windows.norm(dim=1).clamp(min=1e-9)).tolist()


def test_single_utterance_has_no_interfering_speech(noises):
    alone = {k: v[:1] for k, v in batch().items()}
    assert NoisySpeech(None, p=1.0)(**alone)["noisy_audio"] is alone["audio"]
    result = NoisySpeech(noises, p=1.0, noise_fraction=0.0)(**alone)
    assert not torch.equal(result["noisy_audio"], alone["audio"])


def test_unselected_items_are_unchanged(noises):
    given = batch()
    result = NoisySpeech(noises, p=0.0)(**given)
    assert result["noisy_audio"] is given["audio"]
    chosen = 0
    for seed in range(0, 400, 4):
        given = batch(seed)
        result = NoisySpeech(noises, p=0.5)(**given)["noisy_audio"]
        chosen += sum(not torch.equal(a, b) for a, b in zip(result, given["audio"], strict=True))
    assert chosen / 400 == pytest.approx(0.5, abs=0.1)


def test_deterministic_given_seeds(noises):
    make = NoisySpeech(noises, p=1.0, max_segments=3, max_speakers=2)
    first, second = make(**batch())["noisy_audio"], make(**batch())["noisy_audio"]
    assert torch.equal(first, second)
    assert not torch.equal(first, make(**batch(seed=9))["noisy_audio"])


def test_silence_is_handled(noises):
    result = NoisySpeech(noises, p=1.0)(**batch(silent=True))
    assert not result["noisy_audio"].any()


def test_gather_equals_loop():
    draw = torch.Generator().manual_seed(0)
    pool = torch.randn(500, generator=draw)
    segments = [
        [Segment(5, 40, 100, 30, 7), Segment(60, 10, 300, 200, 0)],
        [Segment(0, 100, 0, 100, 50)],
    ]
    plain = torch.zeros(2, 100)
    for row, own in zip(plain, segments, strict=True):
        for s in own:
            for t in range(s.length):
                row[s.start + t] += pool[s.source + (s.offset + t) % s.source_length]
    assert torch.equal(gather_segments(pool, segments, 100), plain)


def test_segments_are_ordered_and_disjoint():
    for seed in range(50):
        source = generator(seed)
        pieces = split_length(1000, 4, source)
        assert sum(pieces) == 1000 and min(pieces) >= 1
        starts = place_pieces(pieces, 1500, source)
        ends = [start + size for start, size in zip(starts, pieces, strict=True)]
        assert starts[0] >= 0 and ends[-1] <= 1500
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_missing_manifest_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        NoisySpeech("nowhere.jsonl", p=1.0)(**batch())
