"""Compare our recognisers with NVIDIA NeMo's: features, log-probabilities and texts.

Every model has random weights, is written to a .nemo file and restored by NeMo with strict=True.
The exit code is 1 if anything differs by more than rounding. Speed and memory are measured by
scripts/benchmark.py. Run in a separate environment:
    python3.11 -m venv nemo
    nemo/bin/pip install "nemo_toolkit[asr]==3.0.0" torch==2.11.0 torchaudio==2.11.0
    nemo/bin/pip install jaxtyping num2words
    nemo/bin/python scripts/compare_recognisers.py
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor, nn

from scripts.side_by_side import differ
from src.config import build
from src.interop.recogniser import read_recogniser
from src.interop.recogniser_export import save_recogniser
from src.models.conformer import ConformerEncoder
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.text_encoder.base import TextEncoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.greedy import GreedyDecoder
from src.text_encoder.subwords import SubwordEncoder, train_subwords
from src.transforms.features.log_mel import LogMel
from src.utils.entry import run_command
from src.utils.lengths import padding_mask

INSTALL = "error: NeMo is not installed; --help shows how."
CONFIGS = Path(__file__).parents[1] / "src" / "configs" / "model"
TEXTS = ["the quick brown fox jumps over a lazy dog", "pack my box with five dozen liquor jugs"]
ADAPTERS = {"first": {"dim": 8}, "second": {"dim": 4, "norm_position": "post", "enabled": False}}
SMALL = {"num_layers": 2, "d_model": 64, "num_heads": 4, "subsampling_conv_channels": 32}
STREAMING = {
    "causal_downsampling": True,
    "att_context_size": [[16, 3], [16, 0]],
    "att_context_style": "chunked_limited",
    "conv_context_size": "causal",
    "conv_norm_type": "layer_norm",
}
# Name -> (options of the encoder, or a config of a convolutional model; subwords; mel bins).
MODELS: dict[str, tuple[Any, bool, int]] = {
    "FastConformer, subwords": (SMALL, True, 80),
    "FastConformer, 128 mel bins": ({**SMALL, "feat_in": 128}, True, 128),
    "Conformer, full convolutions": (
        {**SMALL, "subsampling": "striding", "subsampling_factor": 4},
        False,
        80,
    ),
    "FastConformer, cache-aware": ({**SMALL, **STREAMING}, True, 80),
    "FastConformer with adapters": ({**SMALL, "adapters": ADAPTERS}, True, 80),
    "QuartzNet 15x5": ("quartznet15x5", False, 64),
    "Jasper 10x5 dense": ("jasper10x5dr", False, 64),
    "Citrinet 256": ("citrinet_256", True, 80),
}
TIMED: dict[str, tuple[Any, bool, int]] = {
    "FastConformer L": ({}, True, 80),
    "QuartzNet 15x5": ("quartznet15x5", False, 64),
}


def tokens_of(subwords: bool) -> TextEncoder:
    """A text encoder of English letters or of 60 subwords."""
    if not subwords:
        return CharacterEncoder(alphabet=" abcdefghijklmnopqrstuvwxyz'")
    return SubwordEncoder(train_subwords(TEXTS * 20, 60))


def our_model(options: Any, vocab_size: int) -> Any:
    """A recogniser with random weights, norms and statistics included."""
    torch.manual_seed(0)
    model: Any
    if isinstance(options, dict):
        model = EncoderCTC(ConformerEncoder(**options), vocab_size)
    else:
        model = EncoderCTC(ConvEncoder(**read_blocks(options)), vocab_size)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer, 0.0, 0.1)
        if name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("pos_bias_u", "pos_bias_v")) or ".adapters." in name:
            nn.init.normal_(parameter, 0.0, 0.1)
    return model


def read_blocks(name: str) -> dict[str, Any]:
    """Arguments of `ConvEncoder` from a config of src/configs/model, its defaults included."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return {key: value for key, value in config["encoder"].items() if key != "_target_"}


def write(path: Path, options: Any, subwords: bool, n_mels: int) -> None:
    """Write a recogniser with random weights."""
    tokens = tokens_of(subwords)
    features = LogMel(
        n_mels=n_mels, preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=16
    )
    save_recogniser(our_model(options, len(tokens)), features, tokens, path)


class Ours:
    """Our recogniser of a .nemo file."""

    def __init__(self, path: Path):
        own = read_recogniser(path)
        options = {key: value for key, value in own.features.items() if key != "_target_"}
        self.features, self.text_encoder = LogMel(**options), own.text_encoder
        config = OmegaConf.create({"model": own.model})
        self.model = build(config, "model", vocab_size=len(own.text_encoder)).eval()
        self.model.load_state_dict(own.weights)

    @torch.inference_mode()
    def __call__(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B, T', V], the blank first, and lengths."""
        out = self.model(**self.features(audio, length))
        return out["log_probs"], out["log_probs_length"]


class Theirs:
    """NeMo's recogniser of a .nemo file, restored with strict=True."""

    def __init__(self, path: Path):
        try:
            from nemo.collections.asr.models import ASRModel
            from nemo.utils import logging as nemo_logging
        except ImportError:
            sys.exit(INSTALL)
        nemo_logging.setLevel(logging.ERROR)
        self.model = ASRModel.restore_from(str(path), map_location="cpu", strict=True).eval()
        self.model.preprocessor.featurizer.dither = 0.0

    @torch.inference_mode()
    def __call__(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B, T', V], the blank last, and lengths."""
        signal = audio.clone()  # which NeMo changes
        log_probs, lengths, _ = self.model(input_signal=signal, input_signal_length=length)
        return log_probs, lengths

    def texts(self, log_probs: Tensor, length: Tensor) -> list[str]:
        """Greedy texts."""
        found = self.model.decoding.ctc_decoder_predictions_tensor(log_probs, length)
        return [getattr(one, "text", one) for one in found]


def make_audio(items: int, seconds: float) -> tuple[Tensor, Tensor]:
    """Random audio [B, T] and lengths; each item is 0.2 s shorter than the one before it."""
    draw = torch.Generator().manual_seed(1)
    samples = int(seconds * 16000)
    length = torch.tensor([samples - 3200 * i for i in range(items)]).clamp(min=samples // 2)
    audio = 0.1 * torch.randn(items, samples, generator=draw)
    return audio * ~padding_mask(length, samples), length


def compare_outputs(name: str, path: Path) -> None:
    """Print how the outputs of both models for a file differ.

    Raises:
        ValueError: by more than rounding.
    """
    print(name)
    ours, theirs = Ours(path), Theirs(path)
    audio, length = make_audio(3, 4.0)
    own, wanted = (
        ours.features(audio, length),
        theirs.model.preprocessor(input_signal=audio.clone(), length=length),
    )
    frames = min(own["spectrogram"].shape[2], wanted[0].shape[2])
    differ("  features", own["spectrogram"][..., :frames], wanted[0][..., :frames], 1e-4)
    log_probs, lengths = ours(audio, length)
    expected, their_lengths = theirs(audio, length)
    if not lengths.equal(their_lengths):
        raise ValueError(f"{name}: lengths {lengths.tolist()}, NeMo {their_lengths.tolist()}.")
    aligned = with_blank_first(expected, ours.text_encoder)
    valid = ~padding_mask(lengths, log_probs.shape[1])
    differ(
        "  log-probabilities, valid frames", log_probs[valid], aligned[:, : valid.shape[1]][valid]
    )
    texts = [ours.text_encoder.decode(ids) for ids in GreedyDecoder()(log_probs, lengths)]
    their_texts = [" ".join(text.split()) for text in theirs.texts(expected, their_lengths)]
    if texts != their_texts:
        raise ValueError(f"{name}: texts {texts}, NeMo {their_texts}.")
    print(f"  {'lengths and greedy texts':<34}equal")


def with_blank_first(log_probs: Tensor, tokens: TextEncoder) -> Tensor:
    """NeMo's log-probabilities in the order of our classes, without those that we don't have."""
    log_probs = log_probs.roll(1, 2)
    if log_probs.shape[2] > len(tokens):  # class 1 is the unknown piece
        log_probs = torch.cat([log_probs[..., :1], log_probs[..., 2:]], 2)
    return log_probs


def compare(arguments: argparse.Namespace) -> None:
    """Compare all models."""
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nemo"
        for name, values in MODELS.items():
            write(path, *values)
            compare_outputs(name, path)


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
