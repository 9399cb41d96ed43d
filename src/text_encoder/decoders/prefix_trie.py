"""Token sequences as integer nodes of a trie."""

import heapq

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

    @classmethod
    def of_keys(cls, keys: list[int], vocab_size: int) -> "PrefixTrie":
        """The trie of one utterance whose `keys` were saved."""
        trie = cls(1, vocab_size)
        trie.keys = list(keys)
        trie.nodes = {key: node for node, key in enumerate(keys, start=1)}
        return trie

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

    def common_ancestor(self, nodes: np.ndarray) -> int:
        """The longest common prefix of the nodes [N] of one utterance.

        A node has a higher number than its parent, so the highest one is replaced by its parent
        until they meet.
        """
        heap = [-node for node in set(nodes.tolist())]
        heapq.heapify(heap)
        while len(heap) > 1:
            node = heapq.heappop(heap)
            if node != heap[0]:
                heapq.heappush(heap, -self.origin(-node)[0])
        return -heap[0]

    def rooted_at(self, root: int, nodes: np.ndarray) -> tuple["PrefixTrie", np.ndarray]:
        """A trie of one utterance in which a common prefix of some nodes is the empty one.

        Args:
            root: the prefix.
            nodes: that are kept with all on the way to them, [N].

        Returns:
            The trie, and for each of its nodes the number here, in rising order.
        """
        kept = {root}
        for node in nodes.tolist():
            while node not in kept:
                kept.add(node)
                node, _ = self.origin(node)
        order = sorted(kept)
        numbers = {node: number for number, node in enumerate(order)}
        keys = []
        for node in order[1:]:
            parent, token = self.origin(node)
            keys.append(numbers[parent] * self.vocab_size + token)
        return PrefixTrie.of_keys(keys, self.vocab_size), np.array(order)

    def __len__(self) -> int:
        return self.n_roots + len(self.keys)
