import pytest
import torch

from src.datasets.loading.collate import collate
from src.transforms.chain import Chain, apply_to_item
from src.transforms.features.log_mel import LogMel
from src.transforms.views import Views
from src.transforms.wave.noisy_speech import NoisySpeech


@pytest.mark.parametrize("pad_to", [0, 16])
def test_tensors_that_a_transform_adds_to_items_are_collated(pad_to):
    chain = Chain({"noisy": NoisySpeech(), "features": LogMel(pad_to=pad_to)})
    torch.manual_seed(0)
    items = [
        {"id": f"{i}", "seed": i, "audio": 0.1 * torch.randn(size)}
        for i, size in enumerate((9000, 4000))
    ]
    batch = collate([apply_to_item(chain, item) for item in items])
    for key in ("spectrogram", "noisy_spectrogram"):
        frames = [LogMel().output_length(size) for size in (9000, 4000)]
        assert batch[f"{key}_length"].tolist() == frames
        assert batch[key].shape == (2, LogMel().n_mels, max(frames))
    assert batch["audio_length"].tolist() == batch["noisy_audio_length"].tolist() == [9000, 4000]
    alone = LogMel()(items[1]["audio"][None], torch.tensor([4000]))["spectrogram"][0]
    assert torch.equal(batch["spectrogram"][1, :, : alone.shape[-1]], alone)


def test_views_are_of_whole_batches():
    item = {"id": "a", "seed": 0, "audio": torch.zeros(10)}
    with pytest.raises(ValueError, match="transforms, twice: Views repeats items"):
        apply_to_item(Chain({"twice": Views()}), item)
