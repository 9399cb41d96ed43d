import pytest
import torch

from src.tasks.windows import separate_in_windows


def in_blocks(signal, sizes):
    at = 0
    for size in sizes:
        yield signal[at : at + size]
        at += size
    yield signal[at:]


class Shuffler:
    """Separates perfectly, with another permutation of the speakers in every window."""

    def __init__(self, sources):
        self.sources, self.draw = sources, torch.Generator().manual_seed(0)
        self.mixture = sources.sum(0)

    def __call__(self, window):
        starts = (self.mixture.unfold(0, len(window), 1) == window).all(1).nonzero()
        start = int(starts[0])
        permutation = torch.randperm(len(self.sources), generator=self.draw)
        return self.sources[permutation, start : start + len(window)]


@pytest.mark.parametrize("speakers", [2, 3, 4])
@pytest.mark.parametrize("size", [7, 100, 101, 160, 161, 1234])
def test_permutation_and_length(speakers, size):
    sources = torch.randn(speakers, size, generator=torch.Generator().manual_seed(1))
    model = Shuffler(sources)
    blocks = in_blocks(model.mixture, [3, 50, 200])
    estimates = torch.cat(list(separate_in_windows(blocks, model, 100, 40)), 1)
    assert estimates.shape == sources.shape
    permutation = [int((estimates[k] - sources).abs().sum(1).argmin()) for k in range(speakers)]
    assert sorted(permutation) == list(range(speakers))
    torch.testing.assert_close(estimates, sources[permutation])


def test_silence_stays_silent():
    parts = separate_in_windows([torch.zeros(500)], lambda w: torch.zeros(2, len(w)), 100, 50)
    estimates = torch.cat(list(parts), 1)
    assert not estimates.any() and estimates.shape == (2, 500)


def test_overlap_must_be_shorter_than_the_window():
    with pytest.raises(ValueError, match="overlap of 100 samples in windows of 100"):
        next(separate_in_windows([torch.zeros(5)], lambda w: w[None], 100, 100))
