"""Loudness of a signal by ITU-R BS.1770-4."""

import math

import numpy as np
from scipy.signal import lfilter

BLOCK = 0.4  # seconds
HOP = 0.25  # of a block
SILENCE = -70.0  # LUFS, below which blocks are left out
BELOW = 10.0  # LU below the loudness of the others at which blocks are left out


def integrated_loudness(samples: np.ndarray, sample_rate: int, block: float = BLOCK) -> float:
    """Gated loudness of a mono signal in LUFS, as pyloudnorm measures it.

    Args:
        samples: [T].
        sample_rate: in Hz.
        block: duration of a block in seconds; 0.4 by the standard.

    Returns:
        LUFS; -inf for silence.

    Raises:
        ValueError: the signal is shorter than a block.
    """
    if len(samples) < block * sample_rate:
        raise ValueError(f"{len(samples)} samples; the loudness needs {block:g} s.")
    weighted = k_weighted(samples.astype(float), sample_rate)
    count = round((len(samples) / sample_rate - block) / (block * HOP)) + 1
    starts = [int(block * HOP * k * sample_rate) for k in range(count)]
    ends = [int(block * (HOP * k + 1) * sample_rate) for k in range(count)]
    energies = [np.square(weighted[a:b]).sum() for a, b in zip(starts, ends, strict=True)]
    powers = np.array(energies) / (block * sample_rate)
    powers = powers[powers >= power_of(SILENCE)]
    if not len(powers):
        return -math.inf
    powers = powers[powers > powers.mean() * 10 ** (-BELOW / 10)]
    return -0.691 + 10 * math.log10(powers.mean())


def power_of(loudness: float) -> float:
    """The mean square of a K-weighted signal of a loudness in LUFS."""
    return 10 ** ((loudness + 0.691) / 10)


def k_weighted(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """A signal [T] after the K-weighting: a high shelf of 4 dB, then a high-pass at 38 Hz.

    Both are the biquads of Robert Bristow-Johnson's Audio EQ Cookbook.
    """
    gain, angle = 10 ** (4 / 40), 2 * math.pi * 1500 / sample_rate
    cosine, slope = math.cos(angle), math.sqrt(gain) * math.sin(angle) * math.sqrt(2)
    up, down = gain + 1, gain - 1
    shelf = [
        gain * (up + down * cosine + slope),
        -2 * gain * (down + up * cosine),
        gain * (up + down * cosine - slope),
    ]
    shelf_poles = [up - down * cosine + slope, 2 * (down - up * cosine), up - down * cosine - slope]
    angle = 2 * math.pi * 38 / sample_rate
    cosine, alpha = math.cos(angle), math.sin(angle)
    high_pass = [(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2]
    high_pass_poles = [1 + alpha, -2 * cosine, 1 - alpha]
    return lfilter(high_pass, high_pass_poles, lfilter(shelf, shelf_poles, samples))
