import pytest
import torch

from src.interop.clearervoice import from_clearervoice, to_clearervoice
from src.models.mossformer2 import MossFormer2
from src.utils.si_sdr import si_sdr
from tests.golden import golden, part
from tests.programs import run_code


@pytest.fixture(scope="module")
def reference():
    tensors, _ = golden("mossformer2_base")
    weights = {name: value.float() for name, value in part(tensors, "state.").items()}
    model = MossFormer2(d_model=64, num_layers=2).eval()
    model.load_state_dict(from_clearervoice(weights), strict=False)
    batch = {"audio": tensors["in.mixture"], "audio_length": torch.tensor([4000, 4000])}
    return model, batch, tensors


def test_equals_reference_outputs(reference):
    model, batch, tensors = reference
    outputs = model(**batch)
    torch.testing.assert_close(
        outputs["estimates"].transpose(1, 2), tensors["out.estimates"], rtol=0, atol=1e-5
    )
    masks = outputs["masks"][0].unsqueeze(1)[..., :64]
    torch.testing.assert_close(masks, tensors["mid.mask"], rtol=0, atol=1e-5)


def test_equals_reference_activations(reference):
    model, batch, tensors = reference
    net, seen = model.mask_net, {}
    block = net.blocks[0]
    places = {
        "after_conv1d_encoder": net.input_proj,
        "layer0_attention_block": block.attention,
        "layer0_fsmn_block": block.fsmn,
    }
    handles = [
        module.register_forward_hook(lambda *given, name=name: seen.update({name: given[2][:1]}))
        for name, module in places.items()
    ]
    for name, module in {"encoder": net, "after_block_stack": net.speaker_proj}.items():
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
    expected = {**part(tensors, "mid."), "after_block_stack": stack}
    for name, value in seen.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=name)


def test_equals_reference_loss_and_gradients(reference):
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
    grads = dict(zip(names, torch.autograd.grad(losses.mean(), parameters), strict=True))
    theirs = to_clearervoice({**model.state_dict(), **grads})
    expected = part(tensors, "grad.")
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("use_fsmn", [True, False])
def test_activation_checkpointing_changes_nothing(use_fsmn):
    torch.manual_seed(0)
    options = {"d_model": 8, "num_layers": 2, "kernel_size": 4, "use_fsmn": use_fsmn}
    plain = MossFormer2(**options).train()
    checkpointed = MossFormer2(**options, activation_checkpointing=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    batch = {"audio": torch.randn(2, 900), "audio_length": torch.tensor([900, 700])}
    results = []
    for model in (plain, checkpointed):
        torch.manual_seed(1)
        estimates = model(**batch)["estimates"]
        estimates.square().sum().backward()
        results.append([estimates, *(p.grad for p in model.parameters() if p.requires_grad)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


COMPILED = """
import torch
from src.models.mossformer2 import MossFormer2

torch.manual_seed(0)
model = MossFormer2(d_model=32, num_layers=1, dropout=0.0)
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
    run_code(COMPILED)


def test_bfloat16_gradients_have_same_direction():
    torch.manual_seed(0)
    model = MossFormer2(d_model=32, num_layers=1, dropout=0.0)
    audio = torch.randn(1, 800)

    def gradient(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            estimates = model(audio, torch.tensor([800]))["estimates"]
        weights = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(estimates.float().square().mean(), weights)
        return torch.cat([grad.flatten() for grad in grads])

    same = torch.cosine_similarity(gradient(True), gradient(False), dim=0)
    assert same > 0.99


def test_a_mixture_shorter_than_the_kernel_is_zero_padded():
    torch.manual_seed(0)
    model = MossFormer2(d_model=8, num_layers=1).eval()
    audio = torch.randn(1, 5)
    short = model(audio=audio, audio_length=torch.tensor([5]))
    padded = model(audio=torch.nn.functional.pad(audio, (0, 11)), audio_length=torch.tensor([16]))
    assert short["estimates"].shape == (1, 2, 5) and short["estimates"].any()
    torch.testing.assert_close(short["estimates"], padded["estimates"][..., :5])
    assert short["estimates_length"].tolist() == [5] and short["masks_length"].tolist() == [1]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("d_model", 7, "an even number, 2 or more"),
        ("num_layers", 0, "1 or more"),
        ("kernel_size", 15, "an even number, 2 or more"),
        ("num_speakers", -1, "1 or more"),
        ("dropout", 1.0, "from 0 to below 1"),
    ],
)
def test_bad_arguments_are_named(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed: {allowed}"):
        MossFormer2(**{name: value})


@pytest.mark.parametrize("use_fsmn", [True, False])
@pytest.mark.parametrize("lengths", [[2500, 1700, 1030, 4, 3], [600, 600], [5, 4], [3, 1]], ids=str)
def test_independent_of_padding(lengths, use_fsmn):
    torch.manual_seed(0)
    model = MossFormer2(
        d_model=8, num_layers=2, kernel_size=4, num_speakers=3, use_fsmn=use_fsmn
    ).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # norms and biases too
    audio = torch.randn(len(lengths), max(lengths))  # what is padding is not even zero
    together = model(audio=audio, audio_length=torch.tensor(lengths))
    for i, own in enumerate(lengths):
        alone = model(audio=audio[i : i + 1, :own], audio_length=torch.tensor([own]))
        estimates = together["estimates"][i]
        torch.testing.assert_close(estimates[:, :own], alone["estimates"][0], rtol=1e-4, atol=1e-5)
        frames = int(together["masks_length"][i])
        assert frames == alone["masks"].shape[3]
        torch.testing.assert_close(
            together["masks"][i, ..., :frames], alone["masks"][0], rtol=1e-4, atol=1e-5
        )
