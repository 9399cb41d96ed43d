"""Prefixes as numbers."""

import numpy as np


class PrefixTrie:
    """Gives each sequence of tokens one number, however often it is dropped and found again.

    Args:
        n_roots: empty prefixes, numbered from 0: one for each utterance.
        n_tokens: size of the vocabulary.
    """

    def __init__(self, n_roots: int, n_tokens: int):
        self.n_roots, self.n_tokens = n_roots, n_tokens
        self.nodes: dict[int, int] = {}  # parent * n_tokens + token -> node
        self.keys: list[int] = []  # the same, by node

    def extend(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The prefixes that are one token longer: parents [N], tokens [N] -> [N]."""
        found = []
        for key in (parents * self.n_tokens + tokens).tolist():
            node = self.nodes.get(key)
            if node is None:
                node = self.nodes[key] = self.n_roots + len(self.keys)
                self.keys.append(key)
            found.append(node)
        return np.array(found, dtype=np.int64)

    def origin(self, node: int) -> tuple[int, int]:
        """Parent and last token of a prefix that isn't empty."""
        return divmod(self.keys[node - self.n_roots], self.n_tokens)

    def tokens(self, node: int) -> list[int]:
        """All tokens of a prefix."""
        found = []
        while node >= self.n_roots:
            node, token = self.origin(node)
            found.append(token)
        return found[::-1]

    def __len__(self) -> int:
        return self.n_roots + len(self.keys)
