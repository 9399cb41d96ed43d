"""Compare the speed of our CTC beam search with flashlight-text's C++ decoder.

python scripts/benchmark_beam_search.py
python scripts/benchmark_beam_search.py --words 1000 --token-threshold -8

With --words, both use a trigram model of random sentences of so many words, flashlight-text through
KenLM, and with these words as its lexicon.

Needs: pip install flashlight-text==0.0.7 kenlm
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.ngram_training import train_ngram
from src.utils.random import generator

INSTALL = "error: flashlight-text is not installed; run: pip install flashlight-text==0.0.7 kenlm"
ALPHA, BETA = 0.5, 1.0  # weight of the language model, and what each word adds


def random_log_probs(batch: int, frames: int, tokens: int, seed: int, peaky: bool) -> Tensor:
    """Random log-probabilities [B, T, V] that resemble those of a recogniser, or noise.

    Args:
        batch, frames, tokens: B, T and V, with the blank as token 0.
        seed: of the random generator.
        peaky: True favours the blank, and in every seventh frame on average a token; False is
            noise.
    """
    draw = generator(seed, "benchmark")
    logits = torch.randn(batch, frames, tokens, generator=draw)
    if peaky:
        logits[..., 0] += 6
        for _ in range(2):
            emitted = torch.rand(batch, frames, generator=draw) < 1 / 7
            token = torch.randint(1, tokens, (batch, frames, 1), generator=draw)
            height = 7 + 3 * torch.randn(batch, frames, 1, generator=draw)
            logits.scatter_add_(2, token, height * emitted.unsqueeze(2))
    return logits.log_softmax(dim=-1)


def flashlight(beam_size: int, tokens: int) -> Callable[[Tensor], list[list[int]]]:
    """A decoder of flashlight-text without lexicon and language model, equivalent to ours.

    Args:
        beam_size: number of hypotheses in the beam.
        tokens: V, including the blank.

    Returns:
        A function from log-probabilities [B, T, V] to the token ids of the best hypotheses.

    Raises:
        SystemExit: flashlight-text is not installed.
    """
    try:
        from flashlight.lib.text import decoder as library
    except ImportError:
        sys.exit(INSTALL)
    options = library.LexiconFreeDecoderOptions(
        beam_size=beam_size,
        beam_size_token=tokens,
        beam_threshold=1e9,  # prune by the beam size alone
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,  # sum over alignments
        criterion_type=library.CriterionType.CTC,
    )
    # Hypotheses start with the silence token, whose index `tokens` is outside of the vocabulary.
    decoder = library.LexiconFreeDecoder(options, library.ZeroLM(), tokens, 0, [])

    def decode(log_probs: Tensor) -> list[list[int]]:
        hypotheses = []
        for item in log_probs:
            best = decoder.decode(item.contiguous().data_ptr(), *item.shape)[0]
            hypotheses.append([token for token, _ in groupby(best.tokens[1:-1]) if token])
        return hypotheses

    return decode


class Speech:
    """Random sentences, a trigram model of them, and log-probabilities as if they were spoken.

    Of 29 or fewer tokens, one is the space and the others are letters. Of more, the first half
    begin words and the others continue them, as subwords.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.draw = generator(arguments.seed, "benchmark speech")
        letters, half = arguments.tokens <= 29, arguments.tokens // 2
        if letters:
            vocabulary = [" ", *(chr(97 + i) for i in range(arguments.tokens - 2))]
        else:
            vocabulary = [f"{WORD_START}{i}b" for i in range(half)]
            vocabulary += [f"{i}c" for i in range(arguments.tokens - 1 - half)]
        self.encoder = Vocabulary(vocabulary, None)
        self.spellings: dict[str, list[int]] = {}  # tokens of the words
        while len(self.spellings) < arguments.words:
            size = self.integer(2, 7)
            tokens = [
                self.integer(2 if letters else half + 1, arguments.tokens) for _ in range(size)
            ]
            tokens = [*tokens, 1] if letters else [self.integer(1, half + 1), *tokens[1:3]]
            self.spellings.setdefault(self.encoder.decode(tokens), tokens)
        words = list(self.spellings)
        # Words follow others by chance, but few of them each.
        self.following = {
            word: [words[self.integer(0, len(words))] for _ in "12345"] for word in words
        }
        self.model = train_ngram([" ".join(self.sentence(10)) for _ in range(20_000)], order=3)
        utterances = [self.spoken(arguments.frames) for _ in range(arguments.batch)]
        self.log_probs = torch.stack(utterances)

    def integer(self, low: int, high: int) -> int:
        """A random whole number from `low` to below `high`."""
        return int(torch.randint(low, high, (), generator=self.draw))

    def sentence(self, size: int) -> list[str]:
        """Random words, each one of those that often follow the one before."""
        words = [list(self.spellings)[self.integer(0, min(50, len(self.spellings)))]]
        while len(words) < size:
            words.append(self.following[words[-1]][self.integer(0, 5)])
        return words

    def spoken(self, frames: int) -> Tensor:
        """Log-probabilities [T, V] of a sentence: a blank or two after each uncertain token."""
        tokens: list[int] = []
        for word in self.sentence(frames):
            if 3 * (len(tokens) + len(self.spellings[word])) > frames:
                break
            tokens += self.spellings[word]
        logits = torch.randn(frames, self.encoder.vocab_size, generator=self.draw)
        at = torch.arange(len(tokens)) * (frames // len(tokens))
        logits[:, 0] += 9
        logits[at, 0] -= 9
        logits[at, torch.tensor(tokens)] += 6 + 2 * torch.randn(len(at), generator=self.draw)
        return logits.log_softmax(-1)


class Vocabulary(TextEncoder):
    """A vocabulary that only decodes."""

    def encode(self, text: str) -> list[int]:
        """Not needed here."""
        raise NotImplementedError

    def describe(self) -> dict[str, str]:
        """Nothing, it isn't saved."""
        return {}


def flashlight_with_words(
    speech: Speech, arguments: argparse.Namespace, folder: Path
) -> Callable[[Tensor], list[str]]:
    """A decoder of flashlight-text with a lexicon and KenLM; it gives texts.

    Args:
        speech: what it decodes.
        arguments: of the command line.
        folder: where the language model is written for KenLM.

    Raises:
        SystemExit: flashlight-text or KenLM is not installed.
    """
    try:
        from flashlight.lib.text import decoder as library
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary
    except ImportError:
        sys.exit(INSTALL)
    speech.model.write_arpa(folder / "lm.arpa")
    words = Dictionary()
    for word in [*speech.spellings, "<unk>"]:
        words.add_entry(word)
    model = KenLM(str(folder / "lm.arpa"), words)
    # The silence token is one more, which is impossible, unless the space plays its part.
    letters = arguments.tokens <= 29
    silence = 1 if letters else arguments.tokens
    lexicon = library.Trie(arguments.tokens + (not letters), silence)
    for word, tokens in speech.spellings.items():
        lexicon.insert(tokens, words.get_index(word), 0.0)
    options = library.LexiconDecoderOptions(
        beam_size=arguments.beam_size,
        beam_size_token=arguments.tokens,
        beam_threshold=1e9,  # prune by the beam size alone
        lm_weight=ALPHA * math.log(10),  # its scores are log10
        word_score=BETA,
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,  # sum over alignments
        criterion_type=library.CriterionType.CTC,
    )
    unknown = words.get_index("<unk>")
    decoder = library.LexiconDecoder(options, lexicon, model, silence, 0, unknown, [], False)

    def decode(log_probs: Tensor) -> list[str]:
        texts = []
        if not letters:
            log_probs = torch.nn.functional.pad(log_probs, (0, 1), value=-1e4)
        for item in log_probs:
            best = decoder.decode(item.contiguous().data_ptr(), *item.shape)[0]
            texts.append(" ".join(words.get_entry(word) for word in best.words if word >= 0))
        return texts

    return decode


def compare_with_words(arguments: argparse.Namespace) -> None:
    """Print the times of both decoders with a language model, and how many texts agree."""
    speech = Speech(arguments)
    lengths = torch.full((arguments.batch,), arguments.frames)
    ours = BeamSearchDecoder(
        arguments.beam_size, arguments.token_threshold, speech.model, ALPHA, BETA
    )
    ours.set_text_encoder(speech.encoder)
    with tempfile.TemporaryDirectory() as folder:
        theirs = flashlight_with_words(speech, arguments, Path(folder))
        times: list[tuple[float, float]] = []
        for _ in range(arguments.rounds):
            our_time, tokens = timed(lambda: ours(speech.log_probs, lengths))
            their_time, expected = timed(lambda: theirs(speech.log_probs))
            times.append((our_time, their_time))
    texts = [speech.encoder.decode(own) for own in tokens]
    same = sum(a == b for a, b in zip(texts, expected, strict=True))
    our_time, their_time = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"with words : ours {our_time:.2f} s, flashlight {their_time:.2f} s, "
        f"ratio {our_time / their_time:.2f}; {same} of {arguments.batch} best texts agree"
    )


def timed(decode: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """Duration of a call in seconds, and the hypotheses that it returns."""
    start = time.perf_counter()
    hypotheses = decode()
    return time.perf_counter() - start, hypotheses


def compare(arguments: argparse.Namespace, peaky: bool) -> None:
    """Print the times of both decoders, their ratio, and how many hypotheses agree.

    Args:
        arguments: of the command line.
        peaky: True for log-probabilities that resemble a recogniser's, False for noise.
    """
    sizes = (arguments.batch, arguments.frames, arguments.tokens)
    log_probs = random_log_probs(*sizes, arguments.seed, peaky)
    lengths = torch.full((arguments.batch,), arguments.frames)
    ours = BeamSearchDecoder(arguments.beam_size)
    theirs = flashlight(arguments.beam_size, arguments.tokens)
    times: list[tuple[float, float]] = []
    for _ in range(arguments.rounds):
        our_time, hypotheses = timed(lambda: ours(log_probs, lengths))
        their_time, expected = timed(lambda: theirs(log_probs))
        times.append((our_time, their_time))
    our_time, their_time = (statistics.median(column) for column in zip(*times, strict=True))
    same = sum(a == b for a, b in zip(hypotheses, expected, strict=True))
    print(
        f"{'speech-like' if peaky else 'noise      '}: ours {our_time:.2f} s, "
        f"flashlight {their_time:.2f} s, "
        f"ratio {our_time / their_time:.2f}; {same} of {arguments.batch} best hypotheses agree"
    )


def main() -> None:
    """Parse the command line; compare on peaky log-probabilities and on noise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8, help="utterances (default: 8)")
    parser.add_argument("--frames", type=int, default=500, help="per utterance (default: 500)")
    parser.add_argument("--tokens", type=int, default=29, help="including the blank (default: 29)")
    parser.add_argument("--beam-size", type=int, default=100, help="hypotheses (default: 100)")
    parser.add_argument("--words", type=int, default=0, help="with a language model of so many")
    parser.add_argument(
        "--token-threshold", type=float, help="of ours with --words (default: none)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; the median is printed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the random input")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = f"{arguments.batch} utterances of {arguments.frames} frames, {arguments.tokens} tokens"
    print(f"{sizes}, beam size {arguments.beam_size}, threads: {arguments.threads}")
    if arguments.words:
        compare_with_words(arguments)
        return
    for peaky in (True, False):
        compare(arguments, peaky)


if __name__ == "__main__":
    main()
