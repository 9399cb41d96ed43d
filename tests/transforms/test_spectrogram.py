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
    result = SpecAugment(1, 8, 1, 30, 0.2)(**batch(100))["spectrogram"]
    hidden_bins = (result == 0).all(2).sum(1)
    hidden_frames = (result == 0).all(1).sum(1)
    assert hidden_bins.max() == 8 and hidden_frames.max() == 20  # a fifth of 100 is less than 30
    assert hidden_bins.min() == 0 and hidden_frames.min() == 0
    assert 3 < hidden_bins.float().mean() < 5
    assert 8 < hidden_frames.float().mean() < 12


def test_spec_augment_reaches_both_ends():
    result = SpecAugment(0, 0, 1, 5, 1.0)(**batch(10, count=400))["spectrogram"]
    hidden = (result == 0).all(1)
    assert hidden[:, 0].any() and hidden[:, -1].any()


def test_frequency_warp_moves_bins():
    spectrogram = torch.zeros(1, 40, 3)
    spectrogram[:, 20] = 1
    result = FrequencyWarp(1.2, 1.2)(
        seed=torch.tensor([0]),
        spectrogram=spectrogram,
        spectrogram_length=torch.tensor([3]),
    )["spectrogram"]
    assert result[0, :, 0].argmax() == 24


def test_time_warp_stretches():
    ramp = torch.arange(100.0).expand(1, 2, 100)
    result = TimeWarp(1.5, 1.5)(
        seed=torch.tensor([0]), spectrogram=ramp, spectrogram_length=torch.tensor([100])
    )
    assert result["spectrogram_length"].tolist() == [150]
    torch.testing.assert_close(result["spectrogram"][0, 0, 75], torch.tensor(50.0))


def test_two_transforms_of_a_class_draw_differently():
    chain = Chain({"a": Gain(-20, 20), "b": Gain(-20, 20)})
    batch = {"seed": torch.tensor([1])}
    batch |= {"audio": torch.ones(1, 4), "audio_length": torch.tensor([4])}
    stages = {name: after["audio"][0, 0].item() for name, after in chain.stages(batch)}
    assert list(stages) == ["a", "b"]
    assert stages["a"] != stages["b"] / stages["a"]
    assert batch["audio"].eq(1).all()  # the input is not modified
    assert chain(**batch)["audio"][0, 0].item() == stages["b"]


def test_number_of_time_masks_grows_with_the_length():
    transform = SpecAugment(time_masks_per_frame=0.04)
    assert [transform.time_masks(length) for length in (10, 100, 5000)] == [0, 4, 20]
    assert SpecAugment(n_time_masks=3).time_masks(5000) == 3
    batch = {
        "spectrogram": torch.ones(2, 4, 400),
        "spectrogram_length": torch.tensor([10, 400]),
        "seed": torch.tensor([1, 2]),
    }
    transform = SpecAugment(n_freq_masks=0, time_masks_per_frame=0.04, time_fraction=0.1)
    masked = transform(**batch)["spectrogram"] == 0
    assert not masked[0].any() and masked[1].any()
