import numpy as np
import pytest
import torch

from src.models.baseline import Baseline


def test_log_probs_by_hand():
    model = Baseline(feat_in=1, vocab_size=2, hidden_size=1, kernel_size=3, stride=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0)
        model.conv.weight.fill_(1)  # the sum of a frame and its neighbours
        model.hidden.weight.fill_(1)
        model.output.weight[1] = 1  # the second token's score is that sum
    out = model(torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]]), torch.tensor([5]))
    score = out["log_probs"][0, :, 1] - out["log_probs"][0, :, 0]
    torch.testing.assert_close(score, torch.tensor([3.0, 9.0, 9.0]))
    torch.testing.assert_close(out["log_probs"].exp().sum(-1), torch.ones(1, 3))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_output_length_equals_output(stride):
    model = Baseline(4, 3, hidden_size=2, kernel_size=5, stride=stride)
    for frames in range(1, 12):
        out = model(torch.zeros(1, 4, frames), torch.tensor([frames]))
        wanted = len(range(0, frames, stride))
        assert out["log_probs"].shape[1] == wanted == model.output_length(frames)
    assert model.output_length(np.arange(1, 8)).dtype == np.int64


def test_overfits():
    torch.manual_seed(0)
    model = Baseline(4, 3, hidden_size=8, kernel_size=1, stride=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    x, wanted = torch.randn(2, 4, 10), torch.randint(3, (2, 10))
    for _ in range(100):
        log_probs = model(x, torch.tensor([10, 10]))["log_probs"]
        loss = torch.nn.functional.nll_loss(log_probs.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
