"""Signal-to-noise ratio of a recording of speech, estimated from its pauses."""

import math

from torch import Tensor

FRAME = 0.02  # seconds
QUIET = 0.1  # fraction of the frames that are taken for noise alone
FEWEST = 20  # frames
FLOOR = 1e-9  # power, -90 dBFS: about one step of 16 bits
LOWEST = -10.0  # dB; what is below is noise alone


def estimate_snr(audio: Tensor, sample_rate: int) -> float | None:
    """Power of the speech over that of stationary noise, in dB; None for less than 0.4 s.

    The noise is measured in the quietest tenth of the frames, so it is overestimated where nobody
    pauses for a tenth of the time.

    Args:
        audio: [T] in [-1, 1].
        sample_rate: in Hz.
    """
    size = round(FRAME * sample_rate)
    count = len(audio) // size
    if count < FEWEST:
        return None
    powers = audio[: count * size].float().reshape(count, size).square().mean(1).sort().values
    noise = max(float(powers[: round(QUIET * count)].mean()), FLOOR)
    speech = float(powers.mean()) - noise
    return max(10 * math.log10(speech / noise), LOWEST) if speech > 0 else LOWEST
