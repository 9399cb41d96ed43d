import pytest
import torch

from src.tasks.chunks import separate_in_chunks


def in_blocks(signal, sizes):
    at = 0
    for size in sizes:
        yield signal[at : at + size]
        at += size
    yield signal[at:]


class Shuffler:
    """Knows the sources; gives them in another order, turned and scaled alike, at every call."""

    def __init__(self, sources):
        self.sources, self.draw = sources, torch.Generator().manual_seed(0)
        self.mixture = sources.sum(0)

    def __call__(self, window):
        starts = (self.mixture.unfold(0, len(window), 1) == window).all(1).nonzero()
        start = int(starts[0])
        order = torch.randperm(len(self.sources), generator=self.draw)
        return self.sources[order, start : start + len(window)]


@pytest.mark.parametrize("speakers", [2, 3, 4])
@pytest.mark.parametrize("size", [7, 100, 101, 160, 161, 1234])
def test_order_and_length(speakers, size):
    sources = torch.randn(speakers, size, generator=torch.Generator().manual_seed(1))
    model = Shuffler(sources)
    blocks = in_blocks(model.mixture, [3, 50, 200])
    found = torch.cat(list(separate_in_chunks(blocks, model, 100, 40)), 1)
    assert found.shape == sources.shape
    order = [int((found[k] - sources).abs().sum(1).argmin()) for k in range(speakers)]
    assert sorted(order) == list(range(speakers))
    torch.testing.assert_close(found, sources[order])


def test_silence_gives_silence():
    found = list(separate_in_chunks([torch.zeros(500)], lambda w: torch.zeros(2, len(w)), 100, 50))
    assert not torch.cat(found, 1).any() and torch.cat(found, 1).shape == (2, 500)


def test_an_overlap_must_be_shorter():
    with pytest.raises(ValueError, match="overlap of 100 samples in windows of 100"):
        next(separate_in_chunks([torch.zeros(5)], lambda w: w[None], 100, 100))
