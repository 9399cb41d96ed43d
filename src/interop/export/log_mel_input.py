"""Conversion of the log-mel spectrograms of sherpa-onnx to those of a model's own front end.

sherpa-onnx has Kaldi's frames, half a hop later than centred ones, and reads floor(T / factor) of
ceil(T / factor) output frames. With the metadata `normalize_type` empty it does not normalise,
which distinguishes its spectrograms from those of other front ends.
"""

import torch
from torch import Tensor

from src.transforms.features.normalize import normalize
from src.utils.lengths import padding_mask

# Cubic interpolation in the middle between the second and the third of four frames.
HALF_HOP = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)
FAR = 0.5  # from mean 0 and deviation 1, as means over the bins; of normalised frames it is 0


def centred_and_normalised(spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrograms normalised per bin, half a hop earlier where they were not yet.

    Args:
        spectrogram: [B, F, T], zero beyond the end.
        length: [B], frames of each utterance without padding.

    Returns:
        [B, F, T], unchanged where they are normalised, and a mask [B, 1, 1] of the others.
    """
    mask = ~padding_mask(length, spectrogram.shape[2]).unsqueeze(1)
    count = length.clamp(min=1)[:, None, None]
    mean = spectrogram.sum(2, keepdim=True) / count
    deviation = (((spectrogram - mean) * mask).square().sum(2, keepdim=True) / count).sqrt()
    plain = (mean.abs() + (deviation - 1).abs()).mean(1, keepdim=True) > FAR
    earlier = normalize(half_hop_earlier(spectrogram, length), mask, "per_feature")
    return torch.where(plain, earlier, spectrogram), plain


def half_hop_earlier(spectrogram: Tensor, length: Tensor) -> Tensor:
    """Frames in the middle between each frame and the one before: [B, F, T] to [B, F, T].

    Args:
        spectrogram: [B, F, T].
        length: [B], frames of each utterance; the last one is repeated beyond it.
    """
    frames = torch.arange(-2, spectrogram.shape[2] + 1)
    index = torch.minimum(frames.clamp(min=0), (length - 1).clamp(min=0)[:, None])[:, None]
    index = index.expand(-1, spectrogram.shape[1], -1)  # [B, F, T + 3]
    repeated = spectrogram.gather(2, index)
    size = spectrogram.shape[2]
    return sum(  # type: ignore[return-value]
        weight * repeated.narrow(2, start, size) for start, weight in enumerate(HALF_HOP)
    )


def shortened(log_probs: Tensor, length: Tensor) -> Tensor:
    """Log-probabilities without the last frame that repeats the token of the frame before it.

    Greedy decoding merges repeats, so that the text stays the same, with one frame less. The last
    frame is repeated in its place.

    Args:
        log_probs: [B, T, V].
        length: [B], frames of each utterance without padding.

    Returns:
        [B, T, V].
    """
    best = log_probs.argmax(2)
    frames = torch.arange(log_probs.shape[1])
    before = torch.cat([best[:, :1] - 1, best.narrow(1, 0, best.shape[1] - 1)], 1)
    repeats = (best == before) & (frames < length[:, None])
    last = (repeats * frames).amax(1, keepdim=True)  # frame 0 repeats nothing
    index = frames + ((last > 0) & (frames >= last))
    index = torch.minimum(index, (length - 1).clamp(min=0)[:, None]).unsqueeze(2)
    return log_probs.gather(1, index.expand(-1, -1, log_probs.shape[2]))
