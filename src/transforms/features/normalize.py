"""Mean 0 and deviation 1, over the valid frames of each utterance."""

from torch import Tensor

EPSILON = 1e-5


def normalize(spectrogram: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Normalise each utterance by itself.

    Args:
        spectrogram: [B, F, T].
        mask: [B, 1, T], True at valid frames.
        kind: `bands` (each band for itself), `utterance` (all bands together) or `none`.

    Raises:
        ValueError: `kind` is something else.
    """
    if kind == "none":
        return spectrogram
    if kind not in ("bands", "utterance"):
        raise ValueError(f"features: normalization '{kind}' is none of bands, utterance, none.")
    axes = (2,) if kind == "bands" else (1, 2)
    count = mask.sum(2, keepdim=True) * (1 if kind == "bands" else spectrogram.shape[1])
    mean = (spectrogram * mask).sum(axes, keepdim=True) / count.clamp(min=1)
    centred = (spectrogram - mean) * mask
    variance = centred.square().sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + EPSILON)
