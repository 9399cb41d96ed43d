"""Token sequences as integer nodes of a trie."""

import numpy as np


class PrefixTrie:
    """Maps each token sequence to one node, also if it is reached repeatedly.

    Args:
        n_roots: number of empty prefixes (nodes 0 to n_roots - 1), one per utterance.
        vocab_size: number of tokens.
    """

    def __init__(self, n_roots: int, vocab_size: int):
        self.n_roots, self.vocab_size = n_roots, vocab_size
        self.nodes: dict[int, int] = {}  # parent * vocab_size + token -> node
        self.keys: list[int] = []  # parent * vocab_size + token, by node - n_roots

    def extend(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Nodes [N] of the prefixes `parents` [N] extended by one token each, `tokens` [N]."""
        nodes = []
        for key in (parents * self.vocab_size + tokens).tolist():
            node = self.nodes.get(key)
            if node is None:
                node = self.nodes[key] = self.n_roots + len(self.keys)
                self.keys.append(key)
            nodes.append(node)
        return np.array(nodes, dtype=np.int64)

    def origin(self, node: int) -> tuple[int, int]:
        """Parent node and last token of a non-empty prefix."""
        return divmod(self.keys[node - self.n_roots], self.vocab_size)

    def tokens(self, node: int) -> list[int]:
        """All token ids of a prefix."""
        tokens = []
        while node >= self.n_roots:
            node, token = self.origin(node)
            tokens.append(token)
        return tokens[::-1]

    def __len__(self) -> int:
        return self.n_roots + len(self.keys)
