import pytest
import torch

from src.models.ops.relu import plain_relu, relu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_equals_plain(dtype):
    torch.manual_seed(0)
    x = (1e3 * torch.randn(5, 40)).to(dtype)
    grad = torch.randn(5, 40).to(dtype)
    inputs, outputs = [x.clone().requires_grad_() for _ in range(2)], []
    for function, leaf in zip((torch.compile(relu), plain_relu), inputs, strict=True):
        outputs.append(function(leaf))
        outputs[-1].backward(grad)
    assert torch.equal(*outputs)
    assert torch.equal(inputs[0].grad, inputs[1].grad)
