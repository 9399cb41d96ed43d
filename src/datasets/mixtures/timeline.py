"""When the speakers of a mixture speak."""

import torch

from src.utils.options import check_number, check_whole
from src.utils.random import uniform


class Timeline:
    """Draws the starts of utterances that follow one another with overlaps and pauses.

    Each utterance overlaps with the one before it, or starts after a pause. A speaker never
    overlaps with themselves.

    Args:
        min_overlap: lower bound of the overlap of two utterances as a fraction of the shorter one.
        max_overlap: upper bound of it. If both are 1, the shorter one lies within the other.
        pause_prob: probability that an utterance starts after a pause instead.
        min_pause: lower bound of a pause in seconds.
        max_pause: upper bound of a pause in seconds.
        max_turns: each speaker has 1 to so many utterances.

    Raises:
        ValueError: an option has a bad value.
    """

    def __init__(
        self,
        min_overlap: float = 0.0,
        max_overlap: float = 1.0,
        pause_prob: float = 0.2,
        min_pause: float = 0.1,
        max_pause: float = 1.0,
        max_turns: int = 1,
    ):
        check_number("timeline.min_overlap", min_overlap, high=1, inclusive=True)
        check_number("timeline.max_overlap", max_overlap, min_overlap, 1, inclusive=True)
        check_number("timeline.pause_prob", pause_prob, high=1, inclusive=True)
        check_number("timeline.min_pause", min_pause, high=3600, inclusive=True)
        check_number("timeline.max_pause", max_pause, min_pause, 3600, inclusive=True)
        check_whole("timeline.max_turns", max_turns)
        self.overlap, self.pause = (min_overlap, max_overlap), (min_pause, max_pause)
        self.pause_prob, self.max_turns = pause_prob, max_turns

    def draw_order(self, draw: torch.Generator, num_speakers: int) -> list[int]:
        """The speaker of each utterance, in the order of their starts."""
        turns = [int(uniform(draw, 1, self.max_turns + 1)) for _ in range(num_speakers)]
        order = []
        for turn in range(max(turns)):
            shuffled = torch.randperm(num_speakers, generator=draw).tolist()
            order += [speaker for speaker in shuffled if turns[speaker] > turn]
        return order

    def draw_starts(
        self, draw: torch.Generator, order: list[int], lengths: list[float]
    ) -> list[float]:
        """The start of each utterance in seconds; the first one starts at 0.

        Args:
            draw: of the mixture.
            order: the speaker of each utterance.
            lengths: of the utterances, in seconds.
        """
        starts, ends = [0.0], [lengths[0]]
        own_end = {order[0]: ends[0]}
        for k in range(1, len(order)):
            pauses = uniform(draw, 0, 1) < self.pause_prob
            pause, overlap = uniform(draw, *self.pause), uniform(draw, *self.overlap)
            place = uniform(draw, 0, 1)
            start = ends[-1] + pause
            if not pauses:
                shared = overlap * min(lengths[k - 1], lengths[k])
                start = ends[-1] - shared
                if overlap == 1 and lengths[k] < lengths[k - 1]:  # anywhere within the other
                    start = starts[-1] + place * (lengths[k - 1] - lengths[k])
            start = max(start, own_end.get(order[k], 0.0))
            starts.append(start)
            ends.append(start + lengths[k])
            own_end[order[k]] = ends[-1]
        return starts

    def longest(self, num_speakers: int, longest: float) -> float:
        """Bound of a mixture's duration in seconds, by that of the longest utterance."""
        return num_speakers * self.max_turns * (longest + self.pause[1])


def total(starts: list[float], lengths: list[float]) -> float:
    """Seconds from the first start to the last end."""
    return max(start + length for start, length in zip(starts, lengths, strict=True))
