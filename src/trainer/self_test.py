"""A second of audio with the outputs that a model gave for it when it was saved."""

from pathlib import Path

import torch
from torch import Tensor, nn

from src.trainer.evaluation import Step

TOLERANCE = 1e-3  # of the largest output: room for another device, none for another model


@torch.no_grad()
def outputs_for(
    audio: Tensor, model: nn.Module, transforms: Step, device: torch.device
) -> dict[str, Tensor]:
    """Every floating-point output of a model for one recording, in full precision.

    Args:
        audio: [T], at the rate that the model was trained at.
        model: not wrapped for several processes.
        transforms: the batch transforms of inference.
        device: where the model is.
    """
    was_training = model.training
    model.eval()
    batch = transforms(
        id=["self_test"],
        path=["self_test"],
        seed=torch.zeros(1, dtype=torch.int64, device=device),
        audio=audio[None].to(device),
        audio_length=torch.tensor([len(audio)], device=device),
    )
    # The class's own forward: accelerate hangs its mixed precision on the instance.
    outputs = type(model).forward(model, **batch)
    model.train(was_training)
    return {key: value.float().cpu() for key, value in outputs.items() if comparable(value)}


def comparable(value: object) -> bool:
    """Whether something is a tensor of floating-point numbers that isn't empty."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0


def make_self_test(
    audio: Tensor, model: nn.Module, transforms: Step, device: torch.device
) -> dict[str, Tensor]:
    """What a checkpoint stores: the audio and the outputs."""
    return {"audio": audio, **outputs_for(audio, model, transforms, device)}


def check_self_test(
    stored: dict[str, Tensor],
    model: nn.Module,
    transforms: Step,
    device: torch.device,
    source: Path,
) -> None:
    """See that a loaded model still gives the outputs that it gave when it was saved.

    Raises:
        ValueError: it does not; names the output and both values.
    """
    expected = dict(stored)
    found = outputs_for(expected.pop("audio"), model, transforms, device)
    for name, wanted in expected.items():
        if name not in found or found[name].shape != wanted.shape:
            raise ValueError(f"{source}: self-test failed, the model gives no such {name}.")
        difference = (found[name] - wanted).abs().max().item()
        limit = TOLERANCE * max(wanted.abs().max().item(), 1.0)
        if not difference <= limit:
            raise ValueError(
                f"{source}: self-test failed, {name} differs by {difference:.2g} from what the "
                f"model gave when it was saved; at most {limit:.2g} is allowed."
            )
