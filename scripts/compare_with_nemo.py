"""Compare our NEST with NVIDIA NeMo's: outputs and gradients.

Both models have the same weights. Speed and memory are measured by scripts/benchmark.py. Run in a
separate environment:
    python3.11 -m venv nemo
    nemo/bin/pip install "nemo_toolkit[asr]==3.0.0" torch==2.11.0 torchaudio==2.11.0 jaxtyping
    nemo/bin/python scripts/compare_with_nemo.py
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn

from scripts.side_by_side import differ
from src.interop.nemo import load_features, load_nemo, save_nemo, to_nemo
from src.loss.masked_prediction import MaskedPredictionLoss
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from src.utils.entry import run_command
from src.utils.lengths import padding_mask

INSTALL = "error: NeMo is not installed; --help shows how."
SIZES = {
    "tiny": {"num_layers": 2, "d_model": 64, "num_heads": 4, "subsampling_conv_channels": 32},
    "S": {"num_layers": 16, "d_model": 176, "num_heads": 4},
    "M": {"num_layers": 16, "d_model": 256, "num_heads": 4},
    "L": {},
}
NO_DROPOUT = {"dropout": 0.0, "dropout_pre_encoder": 0.0, "dropout_att": 0.0}


def our_model(size: str, dropout: bool) -> NEST:
    """NEST of a published size with random weights, including those of norms and biases."""
    torch.manual_seed(0)
    options = SIZES[size] if dropout else SIZES[size] | NO_DROPOUT
    model = NEST(ConformerEncoder(**options), BlockMask())
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
    for name, parameter in model.named_parameters():
        if name.endswith(("pos_bias_u", "pos_bias_v")):
            nn.init.normal_(parameter, 0.0, 0.1)
    return model


def their_model(path: Path) -> Any:
    """NeMo's model from a .nemo file, loaded with strict=True."""
    try:
        from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
        from nemo.utils import logging as nemo_logging
    except ImportError:
        sys.exit(INSTALL)
    nemo_logging.setLevel(logging.ERROR)
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(
        str(path), map_location="cpu", strict=True
    )
    model.preprocessor.featurizer.dither = 0.0
    return model


def make_batch(items: int, seconds: float) -> dict[str, Tensor]:
    """Random clean and noisy audio [B, T] and lengths; each item is 0.2 s shorter than the last."""
    draw = torch.Generator().manual_seed(1)
    samples = int(seconds * 16000)
    length = torch.tensor([samples - 3200 * i for i in range(items)]).clamp(min=samples // 2)
    mask = ~padding_mask(length, samples)
    clean, noise = (0.1 * torch.randn(items, samples, generator=draw) * mask for _ in range(2))
    return {"clean": clean, "noisy": clean + 0.3 * noise, "length": length}


class Ours:
    """Our model and front end, from audio to the loss."""

    def __init__(self, path: Path, device: str = "cpu"):
        self.model = load_nemo(path).to(device)
        self.features = load_features(path).to(device)
        self.loss = MaskedPredictionLoss()

    def __call__(self, batch: dict[str, Tensor], ssl_mask: Tensor | None) -> dict[str, Tensor]:
        """Outputs and loss of a batch; a mask is drawn if ssl_mask is None."""
        length = batch["length"]
        outputs = self.features(audio=batch["clean"], audio_length=length)
        noisy = self.features(audio=batch["noisy"], audio_length=length)["spectrogram"]
        seed = torch.arange(len(length), device=length.device)
        outputs |= {"noisy_spectrogram": noisy}
        outputs |= self.model(**outputs, seed=seed, ssl_mask=ssl_mask)
        return outputs | self.loss(**outputs)


class Theirs:
    """NeMo's model, from audio to the loss."""

    def __init__(self, path: Path, device: str = "cpu"):
        self.model = their_model(path).to(device)

    def __call__(self, batch: dict[str, Tensor], ssl_mask: Tensor | None) -> dict[str, Tensor]:
        """Outputs and loss of a batch; a mask is drawn if ssl_mask is None."""
        if ssl_mask is not None:
            self.model.mask_processor.forward = lambda input_feats, input_lengths: apply_mask(
                ssl_mask, input_feats, self.model.mask_processor.mask_embedding
            )
        log_probs, length, masks, tokens = self.model(
            input_signal=batch["clean"].clone(),
            input_signal_length=batch["length"],
            noisy_input_signal=batch["noisy"].clone(),
            noisy_input_signal_length=batch["length"],
            apply_mask=True,
        )
        loss = self.model.loss(
            masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=length
        )
        return {"log_probs": log_probs, "length": length, "tokens": tokens, "loss": loss}


def apply_mask(ssl_mask: Tensor, features: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of NeMo's mask processor for a given mask [B, T]."""
    mask = nn.functional.pad(ssl_mask, (0, features.shape[2] - ssl_mask.shape[1]))[:, None]
    masked = torch.where(mask, embedding[:, None], features)
    return masked, mask.float().expand_as(features)


def compare_outputs(path: Path, batch: dict[str, Tensor]) -> None:
    """Print the differences of the outputs and gradients of both models."""
    ours, theirs = Ours(path), Theirs(path)
    mask = BlockMask()(torch.arange(len(batch["length"])), batch["length"] // 160, 2000)
    frames = ours.features(audio=batch["clean"], audio_length=batch["length"])
    mask = mask[:, : frames["spectrogram"].shape[2]]
    features, _ = theirs.model.preprocessor(
        input_signal=batch["clean"].clone(), length=batch["length"]
    )
    differ("features", frames["spectrogram"], features, 1e-4)
    with torch.no_grad():
        for model in (ours.model, theirs.model):
            model.eval()
        x, length = theirs.model.encoder(
            audio_signal=frames["spectrogram"], length=frames["spectrogram_length"]
        )
        encoded = ours.model.encoder(**frames)["encoded"]
        valid = ~padding_mask(length, x.shape[2])
        differ("encoder, valid frames", encoded.transpose(1, 2)[valid], x.transpose(1, 2)[valid])
        own, other = ours(batch, mask), theirs(batch, mask)
        log_probs = ours.model.logits(own["encoded"].transpose(1, 2)).log_softmax(2)
        expected = other["log_probs"].reshape(log_probs.shape)
        differ("log-probabilities, valid frames", log_probs[valid], expected[valid])
        tokens = own["tokens"].transpose(1, 2)[valid]
        same = (tokens == other["tokens"].reshape(*valid.shape, -1)[valid]).float().mean()
        print(f"{'valid tokens that are equal':<36}{100 * same:.2f} %")
        if same < 0.999:  # up to rounding, a few vectors are equally near to two codes
            raise ValueError(f"Tokens differ: only {100 * same:.2f} % are equal.")
        differ("loss, evaluation", own["loss"], other["loss"])
    for model in (ours.model, theirs.model):
        model.train()
    own, other = ours(batch, mask), theirs(batch, mask)
    differ("loss, training", own["loss"], other["loss"])
    own["loss"].backward()
    other["loss"].backward()
    grads = to_nemo({k: p.grad for k, p in ours.model.named_parameters() if p.grad is not None})
    wanted = {k: p.grad for k, p in theirs.model.named_parameters() if p.grad is not None}
    print(f"{'parameters with a gradient':<36}{len(grads)} and {len(wanted)}")
    worst = max(wanted, key=lambda name: (grads[name] - wanted[name]).abs().max())
    differ(f"gradients, the worst: {worst}", grads[worst], wanted[worst])


def compare(arguments: argparse.Namespace) -> None:
    """Print all comparisons for one model size."""
    torch.set_num_threads(arguments.threads)
    batch = make_batch(arguments.items, arguments.seconds)
    print(f"{arguments.size}, {arguments.items} utterances of up to {arguments.seconds:g} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.nemo"
        save_nemo(our_model(arguments.size, dropout=False), path)
        compare_outputs(path, batch)


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="L", choices=SIZES, help="of the model")
    parser.add_argument("--items", type=int, default=4, help="utterances in the batch")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of the longest utterance"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
