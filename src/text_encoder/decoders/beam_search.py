"""Prefix beam search for CTC, all utterances and all beams at once.

After Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using
Bi-Directional Recurrent DNNs" (arXiv 1408.2873); the score with a language model is that of
Deep Speech 2 (arXiv 1512.02595, section 3.8).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.text_encoder.decoders.word_scorer import WordScorer

BLANK = 0
NEVER = -torch.inf
MULTIPLIER = 6364136223846793005  # of the rolling hash that stands for a prefix


@dataclass
class Beams:
    """K prefixes for each of B utterances; every tensor is [B, K].

    A prefix is known by a 64-bit hash of its tokens, so that one that was dropped and comes back
    is recognised as the parent of its children. Scores are natural logarithms.
    """

    blank: Tensor  # of all alignments of the prefix that end in a blank
    label: Tensor  # of those that end in its last label
    last: Tensor  # its last label, or the blank for the empty prefix
    hash: Tensor
    parent: Tensor  # the hash without the last label
    bonus: Tensor  # the language model's part

    def total(self) -> Tensor:
        """Log-probability of each prefix."""
        return torch.logaddexp(self.blank, self.label)


class BeamSearchDecoder:
    """Finds the most probable label sequences, summed over their alignments.

    Args:
        beam_size: prefixes kept after each frame.
        scorer: adds a bonus to words, e.g. from a language model; None: CTC alone.
    """

    def __init__(self, beam_size: int = 100, scorer: WordScorer | None = None):
        if beam_size < 1:
            raise ValueError(f"beam search: beam_size {beam_size} is less than 1.")
        self.beam_size = beam_size
        self.scorer = scorer

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """The best token ids for each utterance.

        Args:
            log_probs: [B, T, V]; label 0 is the blank.
            log_probs_length: [B].
        """
        return [found[0][1] for found in self.n_best(log_probs, log_probs_length, 1)]

    @torch.inference_mode()
    def n_best(
        self, log_probs: Tensor, log_probs_length: Tensor, n: int
    ) -> list[list[tuple[float, list[int]]]]:
        """The n best hypotheses for each utterance, as (score, token ids), best first."""
        frames = silence_padding(log_probs, log_probs_length)
        beams = start(len(frames), self.beam_size, frames.device)
        memory = Memory(self.scorer, beams)
        for frame in frames.unbind(1):
            beams, origin, token = step(beams, frame, memory.word_bonus, memory.space)
            memory.note(beams, origin, token)
        score = beams.total() + beams.bonus + memory.final_bonus(beams)
        order = score.argsort(dim=1, descending=True, stable=True)[:, :n]
        return memory.read(score, order)


def silence_padding(log_probs: Tensor, length: Tensor) -> Tensor:
    """Frames in double precision; past an utterance's end only the blank is possible."""
    frames = log_probs.to(torch.float64)
    outside = torch.arange(frames.shape[1], device=frames.device) >= length.unsqueeze(1)
    frames = frames.masked_fill(outside.unsqueeze(2), NEVER)
    frames[..., BLANK].masked_fill_(outside, 0.0)
    return frames


def start(batch: int, size: int, device: torch.device) -> Beams:
    """The empty prefix, and `size - 1` impossible ones."""
    blank = torch.full((batch, size), NEVER, dtype=torch.float64, device=device)
    blank[:, 0] = 0.0
    zeros = torch.zeros(batch, size, dtype=torch.int64, device=device)
    return Beams(
        blank=blank,
        label=torch.full_like(blank, NEVER),
        last=zeros,
        hash=impossible(zeros, blank),
        parent=zeros - 1,
        bonus=torch.zeros_like(blank),
    )


def impossible(hash: Tensor, score: Tensor) -> Tensor:
    """Hashes in which prefixes of probability 0 are nobody's parent."""
    return torch.where(score == NEVER, torch.full_like(hash, -2), hash)


def step(
    beams: Beams, frame: Tensor, word_bonus: Tensor | None, space: int
) -> tuple[Beams, Tensor, Tensor]:
    """One frame.

    Args:
        beams: before it.
        frame: [B, V].
        word_bonus: [B, K], what a space after each prefix earns; None without a scorer.
        space: its label.

    Returns:
        The beams after it; for each the beam that it came from, and the label that it added
        (the blank: none).
    """
    size, vocabulary = beams.last.shape[1], frame.shape[1]
    total = beams.total()
    stay_blank = total + frame[:, BLANK, None]
    stay_label = beams.label + frame.gather(1, beams.last)

    # Extending by the last label again needs a blank in between.
    longer = total.unsqueeze(2) + frame.unsqueeze(1)
    again = beams.blank + frame.gather(1, beams.last)
    longer.scatter_(2, beams.last.unsqueeze(2), again.unsqueeze(2))
    longer[..., BLANK] = NEVER
    longer = longer.flatten(1)

    # A longer prefix that is in the beam already gives its probability to it.
    same = beams.parent.unsqueeze(2) == beams.hash.unsqueeze(1)
    place = same.to(torch.uint8).argmax(2) * vocabulary + beams.last
    given = torch.where(same.any(2), longer.gather(1, place), NEVER)
    stay_label = torch.logaddexp(stay_label, given)
    longer.scatter_(1, torch.where(same.any(2), place, 0), NEVER)  # place 0 is a blank's anyway

    bonus = beams.bonus.unsqueeze(2).expand(-1, -1, vocabulary)
    if word_bonus is not None:
        bonus = bonus.clone()
        bonus[..., space] += word_bonus
    scores = torch.cat([torch.logaddexp(stay_blank, stay_label), longer], dim=1)
    bonuses = torch.cat([beams.bonus, bonus.flatten(1)], dim=1)
    chosen = (scores + bonuses).topk(size, dim=1).indices

    stays = chosen < size
    origin = torch.where(stays, chosen, (chosen - size).div(vocabulary, rounding_mode="floor"))
    token = torch.where(stays, BLANK, (chosen - size) % vocabulary)
    old = beams.hash.gather(1, origin)
    score = scores.gather(1, chosen)
    after = Beams(
        blank=torch.where(stays, stay_blank.gather(1, origin), NEVER),
        label=torch.where(stays, stay_label.gather(1, origin), score),
        last=torch.where(stays, beams.last.gather(1, origin), token),
        hash=impossible(torch.where(stays, old, old * MULTIPLIER + token), score),
        parent=torch.where(stays, beams.parent.gather(1, origin), old),
        bonus=bonuses.gather(1, chosen),
    )
    return after, origin, token


class Memory:
    """How each prefix came about, and what the scorer knows about it."""

    def __init__(self, scorer: WordScorer | None, beams: Beams):
        self.scorer = scorer
        self.space = scorer.space if scorer else BLANK
        self.origins: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.states: list[list[Any]] = []
        self.word_bonus: Tensor | None = None
        if scorer is not None:
            batch, size = beams.last.shape
            self.states = [[scorer.start()] * size for _ in range(batch)]
            self.word_bonus = torch.zeros_like(beams.bonus)

    def note(self, beams: Beams, origin: Tensor, token: Tensor) -> None:
        """Remember one step."""
        self.origins.append(origin)
        self.tokens.append(token)
        if self.scorer is None:
            return
        for i, (froms, added) in enumerate(zip(origin.tolist(), token.tolist(), strict=True)):
            old = self.states[i]
            self.states[i] = [
                self.scorer.advance(old[k], label) if label else old[k]
                for k, label in zip(froms, added, strict=True)
            ]
        self.word_bonus = beams.bonus.new_tensor(
            [[self.scorer.word_bonus(state) for state in row] for row in self.states]
        )

    def final_bonus(self, beams: Beams) -> Tensor:
        """What the last word of each prefix earns."""
        if self.word_bonus is None:
            return torch.zeros_like(beams.bonus)
        return self.word_bonus

    def read(self, score: Tensor, order: Tensor) -> list[list[tuple[float, list[int]]]]:
        """Scores and tokens of the beams named by `order` [B, n]."""
        beam, labels = order, []
        for origin, token in zip(reversed(self.origins), reversed(self.tokens), strict=True):
            labels.append(token.gather(1, beam))
            beam = origin.gather(1, beam)
        table = torch.stack(labels[::-1], dim=2).tolist() if labels else [[[]] * order.shape[1]]
        scores = score.gather(1, order).tolist()
        return [
            [(s, [t for t in tokens if t]) for s, tokens in zip(row, texts, strict=True)]
            for row, texts in zip(scores, table, strict=True)
        ]
