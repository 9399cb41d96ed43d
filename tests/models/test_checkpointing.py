"""Blocks of models, and computing them again in the backward pass."""

import copy

import torch

from src.models.deepspeech2 import DeepSpeech2
from src.models.ops.checkpointing import blocks, checkpoint_activations

CONVOLUTIONS = [
    {"out_channels": 2, "kernel_size": (3, 3), "stride": (2, 2)},
    {"out_channels": 2, "kernel_size": (3, 3), "stride": (2, 1)},
]


def deepspeech():
    options = {"num_layers": 2, "hidden_size": 4, "dropout": 0.3, "convolutions": CONVOLUTIONS}
    return DeepSpeech2(feat_in=8, vocab_size=5, **options)


def test_blocks_are_the_layers_that_are_repeated():
    assert {type(block).__name__ for block in blocks(deepspeech())} == {"MaskedConv", "Recurrent"}


def test_recomputation_changes_nothing():
    torch.manual_seed(0)
    plain = deepspeech().train()
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed)
    batch = {"spectrogram": torch.randn(2, 8, 40), "spectrogram_length": torch.tensor([40, 30])}
    batch["spectrogram"][1, :, 30:] = 0
    results = []
    for model in (plain, recomputed):
        saved = []

        def pack(tensor, saved=saved):
            saved.append(tensor.numel())
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model(**batch)["log_probs"]
        output.square().sum().backward()
        results.append([output, *model.buffers(), *(p.grad for p in model.parameters())])
        model.saved = sum(saved)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert recomputed.saved < plain.saved
