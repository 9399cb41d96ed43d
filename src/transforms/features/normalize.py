"""Mean and variance normalisation of spectrograms."""

from torch import Tensor

from src.utils.options import refuse

EPSILON = 1e-5
NORMALIZATIONS = ("per_feature", "all_features", "none")


def normalize(spectrogram: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Normalise each utterance to zero mean and unit standard deviation over its own frames.

    Args:
        spectrogram: [B, F, T].
        mask: [B, 1, T], True at the frames of the utterance, False at padded frames.
        kind: `per_feature` (separate statistics for each feature bin), `all_features` (common
            statistics of all bins) or `none`.

    Returns:
        [B, F, T]; padded frames are zero unless `kind` is `none`.
    """
    if kind == "none":
        return spectrogram
    axes = (2,) if kind == "per_feature" else (1, 2)
    count = mask.sum(2, keepdim=True) * (1 if kind == "per_feature" else spectrogram.shape[1])
    mean = (spectrogram * mask).sum(axes, keepdim=True) / count.clamp(min=1)
    centred = (spectrogram - mean) * mask
    variance = centred.square().sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + EPSILON)


def check_streaming(kind: str) -> None:
    """Check that frames of a stream can be normalised before its end is known.

    Raises:
        ValueError: they can't.
    """
    if kind != "none":
        refuse(
            "features, normalization",
            kind,
            "none; the statistics of a stream aren't known before its end (-cn=asr_streaming)",
        )
