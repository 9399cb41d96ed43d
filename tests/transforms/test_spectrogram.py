import torch

from src.transforms.chain import Chain
from src.transforms.spectrogram.spec_augment import SpecAugment
from src.transforms.spectrogram.warp import FrequencyWarp, TimeWarp
from src.transforms.wave.gain import Gain


def batch(frames, count=64, bins=40):
    return {
        "seed": torch.arange(count),
        "spectrogram": torch.ones(count, bins, frames),
        "spectrogram_length": torch.full((count,), frames),
    }


def test_spec_augment_stays_within_its_widths():
    found = SpecAugment(1, 8, 1, 30, 0.2)(**batch(100))["spectrogram"]
    hidden_bins = (found == 0).all(2).sum(1)
    hidden_frames = (found == 0).all(1).sum(1)
    assert hidden_bins.max() == 8 and hidden_frames.max() == 20  # a fifth of 100 is less than 30
    assert hidden_bins.min() == 0 and hidden_frames.min() == 0
    assert 3 < hidden_bins.float().mean() < 5
    assert 8 < hidden_frames.float().mean() < 12


def test_spec_augment_reaches_both_ends():
    found = SpecAugment(0, 0, 1, 5, 1.0)(**batch(10, count=400))["spectrogram"]
    hidden = (found == 0).all(1)
    assert hidden[:, 0].any() and hidden[:, -1].any()


def test_frequency_warp_moves_bins():
    spectrogram = torch.zeros(1, 40, 3)
    spectrogram[:, 20] = 1
    found = FrequencyWarp(1.2, 1.2)(
        seed=torch.tensor([0]),
        spectrogram=spectrogram,
        spectrogram_length=torch.tensor([3]),
    )["spectrogram"]
    assert found[0, :, 0].argmax() == 24


def test_time_warp_stretches():
    ramp = torch.arange(100.0).expand(1, 2, 100)
    found = TimeWarp(1.5, 1.5)(
        seed=torch.tensor([0]), spectrogram=ramp, spectrogram_length=torch.tensor([100])
    )
    assert found["spectrogram_length"].tolist() == [150]
    torch.testing.assert_close(found["spectrogram"][0, 0, 75], torch.tensor(50.0))


def test_two_of_a_kind_draw_differently_and_are_observed():
    chain = Chain({"a": Gain(-20, 20), "b": Gain(-20, 20)})
    seen = []
    audio = {"audio": torch.ones(1, 4), "audio_length": torch.tensor([4])}
    after = chain.run(
        {"seed": torch.tensor([1]), **audio},
        observer=lambda name, before, after: seen.append(
            (name, float(after["audio"][0, 0] / before["audio"][0, 0]))
        ),
    )
    assert [name for name, _ in seen] == ["a", "b"]
    assert seen[0][1] != seen[1][1]
    assert audio["audio"].eq(1).all()  # what went in is left as it was
    torch.testing.assert_close(after["audio"][0, 0].item(), seen[0][1] * seen[1][1])
