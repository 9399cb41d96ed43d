import torch

from src.text_encoder.decoders.greedy import GreedyDecoder
from tests.text_encoder.decoders.brute_force import log_probs


def test_by_hand():
    best = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 0, 0, 3, 3, 3, 1]])
    frames = torch.nn.functional.one_hot(best, 4).float().log_softmax(dim=-1)
    assert GreedyDecoder()(frames, torch.tensor([8, 4])) == [[1, 1, 2], [3]]


def test_no_frames():
    assert GreedyDecoder()(log_probs(1, 3, 4, seed=0), torch.tensor([0])) == [[]]


def test_one_best_path_is_not_the_best_sequence():
    # Each frame favours the blank, but the alignments of [1] outweigh the empty sequence.
    frames = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert GreedyDecoder()(frames, torch.tensor([2])) == [[]]
