"""Comparing a fast operation with the plain one that it must equal."""

import torch


def assert_equal(fast, plain, inputs, rtol=1e-5, atol=1e-5):
    """The same outputs and gradients of all inputs that require them, from the same seed."""
    leaves = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    results = []
    for function in (fast, plain):
        torch.manual_seed(1)
        y = function(*inputs)
        torch.manual_seed(2)
        results.append([y, *torch.autograd.grad(y, leaves, torch.randn(y.shape, dtype=y.dtype))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def saved_bytes(function, inputs):
    """Bytes that a function saves for backward, without those of its inputs."""
    known = {x.untyped_storage().data_ptr() for x in inputs if isinstance(x, torch.Tensor)}
    saved = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = function(*inputs)
    del y
    return sum(saved.values())


def padding_mask(frames):
    """[2, T, 1] of which the second item is half as long."""
    lengths = torch.tensor([frames, frames // 2 + 1])
    return torch.arange(frames)[None, :, None] >= lengths[:, None, None]
