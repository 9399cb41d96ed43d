import torch

from src.models.layers.batch_norm import BatchNorm


def test_single_frame_is_normalised_by_running_statistics():
    torch.manual_seed(0)
    norm = BatchNorm(3)
    norm(torch.randn(50, 3) * 4 + 2)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    frame = torch.randn(1, 3, requires_grad=True)
    output = norm(frame)
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())
    torch.testing.assert_close(output, norm.eval()(frame))
    output.sum().backward()
    assert frame.grad.isfinite().all() and norm.bias.grad.tolist() == [1, 1, 1]
