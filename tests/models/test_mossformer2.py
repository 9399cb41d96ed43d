import subprocess
import sys

import pytest
import torch

from src.interop.clearervoice import from_clearervoice, to_clearervoice
from src.models.mossformer2 import MossFormer2
from src.utils.si_sdr import si_sdr
from tests.golden import golden, part


@pytest.fixture(scope="module")
def reference():
    tensors, _ = golden("mossformer2_base")
    weights = {name: value.float() for name, value in part(tensors, "state.").items()}
    model = MossFormer2(width=64, layers=2).eval()
    model.load_state_dict(from_clearervoice(weights), strict=False)
    batch = {"audio": tensors["in.mixture"], "audio_length": torch.tensor([4000, 4000])}
    return model, batch, tensors


def test_the_reference_outputs(reference):
    model, batch, tensors = reference
    found = model(**batch)
    torch.testing.assert_close(
        found["estimates"].transpose(1, 2), tensors["out.estimates"], rtol=0, atol=1e-5
    )
    masks = found["masks"][0].unsqueeze(1)[..., :64]
    torch.testing.assert_close(masks, tensors["mid.mask"], rtol=0, atol=1e-5)


def test_the_reference_between(reference):
    model, batch, tensors = reference
    net, seen = model.mask_net, {}
    block = net.blocks[0]
    places = {
        "after_conv1d_encoder": net.enter,
        "layer0_attention_block": block.attention,
        "layer0_fsmn_block": block.memory,
    }
    handles = [
        module.register_forward_hook(lambda *given, name=name: seen.update({name: given[2][:1]}))
        for name, module in places.items()
    ]
    for name, module in {"encoder": net, "after_block_stack": net.split}.items():
        handles.append(
            module.register_forward_pre_hook(
                lambda _, given, name=name: seen.update({name: given[0][:1]})
            )
        )
    model(**batch)
    for handle in handles:
        handle.remove()
    seen["layer0_fsmn_block"] = seen["layer0_fsmn_block"][:, 224:288]
    for name in ("encoder", "after_conv1d_encoder", "after_block_stack"):
        seen[name] = seen[name][:, :64].transpose(1, 2)
    stack = torch.nn.functional.prelu(tensors["mid.after_block_stack"], net.slope)
    wanted = {**part(tensors, "mid."), "after_block_stack": stack}
    for name, found in seen.items():
        torch.testing.assert_close(found, wanted[name], rtol=0, atol=1e-5, msg=name)


def test_the_reference_loss_and_gradients(reference):
    model, batch, tensors = reference
    estimates = model(**batch)["estimates"]
    sources = tensors["in.sources"].transpose(1, 2)
    ratio = si_sdr(estimates[:, :, None], sources[:, None], batch["audio_length"])
    orders = torch.stack([ratio[:, 0, 0] + ratio[:, 1, 1], ratio[:, 0, 1] + ratio[:, 1, 0]])
    losses = -orders.max(0).values / 2
    torch.testing.assert_close(losses, tensors["out.loss_per_item"], rtol=0, atol=5e-5)
    names, parameters = zip(
        *((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True
    )
    found = dict(zip(names, torch.autograd.grad(losses.mean(), parameters), strict=True))
    theirs = to_clearervoice({**model.state_dict(), **found})
    wanted = part(tensors, "grad.")
    assert wanted
    for name, value in wanted.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("memory", [True, False])
def test_recomputing_changes_nothing(memory):
    torch.manual_seed(0)
    options = {"width": 8, "layers": 2, "kernel": 4, "memory": memory}
    plain, frugal = MossFormer2(**options).train(), MossFormer2(**options, recompute=True).train()
    frugal.load_state_dict(plain.state_dict())
    batch = {"audio": torch.randn(2, 900), "audio_length": torch.tensor([900, 700])}
    found = []
    for model in (plain, frugal):
        torch.manual_seed(1)
        estimates = model(**batch)["estimates"]
        estimates.square().sum().backward()
        found.append([estimates, *(p.grad for p in model.parameters() if p.requires_grad)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


COMPILED = """
import torch
from src.models.mossformer2 import MossFormer2

torch.manual_seed(0)
model = MossFormer2(width=32, layers=1, dropout=0.0)
weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
audio, length = torch.randn(2, 4000), torch.tensor([4000, 3000])

def gradients():
    estimates = model(audio, length)["estimates"]
    return torch.autograd.grad(estimates.square().mean(), list(weights.values()))

plain = gradients()
model.compile(backend="eager")
for name, a, b in zip(weights, gradients(), plain):
    assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max())), name
"""


def test_compiled_gradients_equal_plain_ones():
    """In a process without the shape checks, which the compiler can't trace."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_half_precision_trains_much_the_same():
    torch.manual_seed(0)
    model = MossFormer2(width=32, layers=1, dropout=0.0)
    audio = torch.randn(1, 800)

    def gradient(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            estimates = model(audio, torch.tensor([800]))["estimates"]
        weights = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(estimates.float().square().mean(), weights)
        return torch.cat([grad.flatten() for grad in found])

    same = torch.cosine_similarity(gradient(True), gradient(False), dim=0)
    assert same > 0.99


def test_too_short_is_named():
    model = MossFormer2(width=8, layers=1)
    batch = {"audio": torch.zeros(2, 20), "audio_length": torch.tensor([20, 15])}
    with pytest.raises(ValueError, match="short.wav: 15 samples, fewer than a window of 16"):
        model(**batch, id=["long.wav", "short.wav"])


def test_bad_sizes():
    with pytest.raises(ValueError, match="kernel 15"):
        MossFormer2(kernel=15)


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("lengths", [[2500, 1700, 1030, 4], [600, 600], [5, 4]], ids=str)
def test_alone_and_beside_others(lengths, memory):
    torch.manual_seed(0)
    model = MossFormer2(width=8, layers=2, kernel=4, speakers=3, memory=memory).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # norms and biases too
    audio = torch.randn(len(lengths), max(lengths))  # what is padding is not even zero
    together = model(audio=audio, audio_length=torch.tensor(lengths))
    for i, own in enumerate(lengths):
        alone = model(audio=audio[i : i + 1, :own], audio_length=torch.tensor([own]))
        found = together["estimates"][i]
        torch.testing.assert_close(found[:, :own], alone["estimates"][0], rtol=1e-4, atol=1e-5)
        frames = int(together["masks_length"][i])
        assert frames == alone["masks"].shape[3]
        torch.testing.assert_close(
            together["masks"][i, ..., :frames], alone["masks"][0], rtol=1e-4, atol=1e-5
        )
