import json

import pytest
import torch

from src.models.layers.nest.block_mask import BlockMask
from tests.golden import FIXTURES

STATISTICS = json.loads((FIXTURES / "nest_masking_stats.json").read_text())
DRAWS = 4000


def runs(mask):
    """Masked stretches of a row or of all rows: (start, end)."""
    edges = torch.diff(torch.nn.functional.pad(mask.int(), (1, 1)))
    starts, ends = (edges == 1).nonzero()[:, -1], (edges == -1).nonzero()[:, -1]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


@pytest.mark.parametrize("algorithm", ["nemo_2", "nemo_3"])
def test_equals_reference_statistics(algorithm):
    name = next(
        k for k in STATISTICS if k.startswith(algorithm) and isinstance(STATISTICS[k], list)
    )
    for row in STATISTICS[name]:
        length = row["length"]
        lengths = torch.full((DRAWS,), length)
        mask = BlockMask(algorithm=algorithm)(torch.arange(DRAWS), lengths, length + 16)
        fraction = mask.float().sum(1) / length
        noise = 5 * max(row["std_fraction"], 0.01) / DRAWS**0.5 * 2**0.5
        assert fraction.mean().item() == pytest.approx(row["mean_fraction"], abs=noise)
        assert (~mask.any(1)).float().mean().item() == pytest.approx(row["p_no_mask"], abs=0.035)
        assert not mask[:, length:].any()
        if mask.any():
            assert max(end for _, end in runs(mask)) <= row["max_end"]
            assert min(b - a for a, b in runs(mask)) >= row["shortest_run"]


def test_mask_depends_only_on_seed():
    mask = BlockMask()
    seeds, lengths = torch.tensor([5, 6, 7]), torch.tensor([400, 300, 200])
    together = mask(seeds, lengths, 416)
    for i in range(3):
        alone = mask(seeds[i : i + 1], lengths[i : i + 1], int(lengths[i]))
        assert torch.equal(together[i, : lengths[i]], alone[0])
        assert not together[i, lengths[i] :].any()


@pytest.mark.parametrize("length", [20, 60, 100, 400, 1000])
def test_blocks_without_overlap(length):
    block, mask_prob = 40, 0.3
    lengths = torch.full((200,), length)
    mask = BlockMask(block, mask_prob, allow_overlap=False, algorithm="nemo_3")(
        torch.arange(200), lengths, length + 8
    )
    number = -(-length * mask_prob // block)
    own = block if (number + 1) * block <= length else length // (number + 1)
    wanted = min(number, length // own - 1) * own
    assert set(mask.sum(1).tolist()) == {wanted}
    assert not mask[:, length:].any()
    starts = {runs(row)[0][0] for row in mask if row.any()}
    assert len(starts) > 5 or wanted == 0  # the offset is drawn
    for row in mask:
        assert all((b - a) % own == 0 for a, b in runs(row))


def test_blocks_are_shorter_on_subsampled_frames():
    mask = BlockMask(40, 0.02)(torch.arange(50), torch.full((50,), 200), 200, subsampling_factor=8)
    assert min(b - a for row in mask for a, b in runs(row)) >= 5
    assert min(b - a for row in mask for a, b in runs(row)) < 40


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="nemo_9"):
        BlockMask(algorithm="nemo_9")
    with pytest.raises(ValueError, match="mask_prob: 2"):
        BlockMask(mask_prob=2.0)
