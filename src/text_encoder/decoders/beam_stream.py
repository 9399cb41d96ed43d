"""Prefix beam search in a stream."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.text_encoder.decoders.base import Search
from src.text_encoder.decoders.beam import Beam, Hypothesis, check_log_probs, collect_hypotheses
from src.text_encoder.decoders.prefix_trie import PrefixTrie
from src.text_encoder.decoders.word_scorer import WordScorer

ROOT = 0
MOST_NODES = 10_000  # of a trie, before those that the beam has left are dropped
ARRAYS = [field.name for field in fields(Beam)]


class BeamStream(Search):
    """The beam of one stream: the same prefixes and scores as for the whole utterance.

    Args:
        decoder: a `BeamSearchDecoder`.
        state: of an earlier search; None: a new one.
        words: that were committed in it.
    """

    def __init__(
        self, decoder: Any, state: Mapping[str, Tensor] | None = None, words: Sequence[str] = ()
    ):
        self.decoder = decoder
        self.beam = Beam.start(1)
        self.trie: Any = None  # made with the first frame, which says how many tokens there are
        self.scorer: WordScorer | None = None
        if state is not None and "keys" in state:
            self.trie = PrefixTrie.of_keys(state["keys"].tolist(), int(state["vocab_size"]))
            self.scorer = decoder.build_scorer(self.trie)
            if self.scorer is not None:
                self.scorer.set_root(words)
                self.scorer.scores_of(np.arange(len(self.trie)))
            self.beam = Beam(*(state[name].numpy() for name in ARRAYS))

    def advance(self, log_probs: Tensor) -> None:
        """Go on by frames [T, V].

        Raises:
            ValueError: a log-probability is NaN.
        """
        check_log_probs(log_probs[None], np.array([len(log_probs)]))
        frames = log_probs.double().numpy()
        if self.trie is None:
            self.trie = PrefixTrie(1, frames.shape[1])
            self.scorer = self.decoder.build_scorer(self.trie)
        for frame in frames:
            self.beam = self.decoder.advance(self.beam, frame[None], self.trie, self.scorer)
            if len(self.trie) > MOST_NODES:
                self.set_root(ROOT)

    def certain(self) -> list[int]:
        """Token ids with which every prefix of the beam begins."""
        if self.trie is None:
            return []
        return self.trie.tokens(self.trie.common_ancestor(self.beam.node))

    def best(self) -> list[int]:
        """Token ids of the best hypothesis if the stream ends here."""
        if self.trie is None:
            return []
        hypotheses: list[list[Hypothesis]] = [[]]
        collect_hypotheses(self.beam, self.trie, self.scorer, 1, hypotheses)
        return hypotheses[0][0][1] if hypotheses[0] else []

    def commit(self, count: int) -> None:
        """Make the prefix of the first `count` certain tokens the root of the trie."""
        if not count or self.trie is None:
            return
        root = self.trie.common_ancestor(self.beam.node)
        for _ in range(len(self.trie.tokens(root)) - count):
            root, _ = self.trie.origin(root)
        self.set_root(root)

    def set_root(self, root: int) -> None:
        """Keep of the trie what leads from a common prefix of the beam to its prefixes."""
        self.trie, kept = self.trie.rooted_at(root, self.beam.node)
        if self.scorer is not None:
            self.scorer = self.scorer.on_trie(self.trie, kept)
        numbers = np.full(kept[-1] + 1, -1)  # of a node by its number in the old trie
        numbers[kept] = np.arange(len(kept))
        at_root = self.beam.node == root
        self.beam.parent = np.where(at_root, -1, numbers[np.maximum(self.beam.parent, 0)])
        self.beam.node = numbers[self.beam.node]

    def state(self) -> dict[str, Tensor]:
        """The beam and its trie."""
        if self.trie is None:
            return {}
        return {
            "keys": torch.tensor(self.trie.keys, dtype=torch.int64),
            "vocab_size": torch.tensor(self.trie.vocab_size),
            **{name: torch.tensor(getattr(self.beam, name)) for name in ARRAYS},
        }
