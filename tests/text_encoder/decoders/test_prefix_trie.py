import numpy as np

from src.text_encoder.decoders.prefix_trie import PrefixTrie


def test_same_prefix_same_node():
    trie = PrefixTrie(n_roots=2, vocab_size=5)
    first = trie.extend(np.array([0, 0, 1]), np.array([3, 4, 3]))
    assert first.tolist() == [2, 3, 4]
    second = trie.extend(np.array([2, 0]), np.array([1, 3]))
    assert second.tolist() == [5, 2]
    assert len(trie) == 6
    assert trie.origin(5) == (2, 1)


def test_tokens_of_a_prefix():
    trie = PrefixTrie(n_roots=1, vocab_size=5)
    node = np.array([0])
    for token in (4, 1, 1, 2):
        node = trie.extend(node, np.array([token]))
    assert trie.tokens(int(node[0])) == [4, 1, 1, 2]
    assert trie.tokens(0) == []
