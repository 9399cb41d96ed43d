"""Compare our CTC beam search with flashlight-text's C++ decoder: its speed and what it finds.

python scripts/benchmark_beam_search.py
python scripts/benchmark_beam_search.py --words 300 --batch 100
python scripts/benchmark_beam_search.py --run RUN --language-model words.arpa --limit 100

With --words, both use a trigram model of random sentences of so many words, flashlight-text through
KenLM, and have its words as their lexicon. With --run, both decode the outputs of a trained
recogniser for its test set with a language model, whose words are the lexicon.

Needs: pip install flashlight-text==0.0.7 kenlm
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.kenlm import read_language_model
from src.text_encoder.decoders.lexicon import words_of_model
from src.text_encoder.decoders.ngram import NgramModel
from src.text_encoder.decoders.ngram_training import train_ngram
from src.utils.entry import run_command
from src.utils.options import check_whole
from src.utils.random import generator

INSTALL = "error: flashlight-text is not installed; run: pip install flashlight-text==0.0.7 kenlm"
LETTERS = 29  # tokens; more are subwords
SENTENCES = 20_000  # that the language model is trained on


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


@dataclass(frozen=True)
class Speech:
    """What is decoded with a language model.

    Attributes:
        encoder: says what the tokens are.
        model: language model of words, which are the lexicon.
        utterances: log-probabilities [T, V] of each.
    """

    encoder: TextEncoder
    model: NgramModel
    utterances: list[Tensor]


class Vocabulary(TextEncoder):
    """Tokens of random words.

    Args:
        vocabulary: tokens, without the blank.
        spellings: token ids of the words.
    """

    def __init__(self, vocabulary: list[str], spellings: dict[str, list[int]]):
        super().__init__(vocabulary, None)
        self.spellings = spellings

    def encode(self, text: str) -> list[int]:
        """Token ids of a word."""
        return self.spellings[text]

    def describe(self) -> dict[str, str]:
        """Nothing, it isn't saved."""
        return {}


class RandomSpeech:
    """Random sentences, a trigram model of them, and log-probabilities as if they were spoken.

    Of 29 or fewer tokens, one is the space and the others are letters. Of more, the first half
    begin words and the others continue them, as subwords.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.draw = generator(arguments.seed, "benchmark speech")
        self.letters, half = arguments.tokens <= LETTERS, arguments.tokens // 2
        if self.letters:
            vocabulary = [" ", *(chr(97 + i) for i in range(arguments.tokens - 2))]
        else:
            vocabulary = [f"{WORD_START}{i}b" for i in range(half)]
            vocabulary += [f"{i}c" for i in range(arguments.tokens - 1 - half)]
        self.spellings: dict[str, list[int]] = {}
        self.encoder = Vocabulary(vocabulary, self.spellings)
        while len(self.spellings) < arguments.words:
            size = self.integer(2, 7)
            tokens = [
                self.integer(2 if self.letters else half + 1, arguments.tokens) for _ in range(size)
            ]
            if not self.letters:
                tokens = [self.integer(1, half + 1), *tokens[1:3]]
            self.spellings.setdefault(self.encoder.decode(tokens), tokens)
        words = list(self.spellings)
        # Words follow others by chance, but few of them each.
        self.following = {
            word: [words[self.integer(0, len(words))] for _ in "12345"] for word in words
        }
        model = train_ngram([" ".join(self.sentence(10)) for _ in range(SENTENCES)], order=3)
        utterances = [self.spoken(arguments.frames) for _ in range(arguments.batch)]
        self.speech = Speech(self.encoder, model, utterances)

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
            spelling = [*self.spellings[word], *([1] if self.letters else [])]
            if 3 * (len(tokens) + len(spelling)) > frames:
                break
            tokens += spelling
        logits = torch.randn(frames, self.encoder.vocab_size, generator=self.draw)
        at = torch.arange(len(tokens)) * (frames // len(tokens))
        logits[:, 0] += 9
        logits[at, 0] -= 9
        logits[at, torch.tensor(tokens)] += 6 + 2 * torch.randn(len(at), generator=self.draw)
        return logits.log_softmax(-1)


def recognised(arguments: argparse.Namespace) -> Speech:
    """The outputs of a trained recogniser for one of its sets, and a language model.

    Raises:
        ValueError: the run is no CTC recogniser, or the language model is missing.
    """
    from scripts.tune_decoder import validation_set  # imports what other benchmarks don't need

    if arguments.language_model is None:
        raise ValueError("--run: needs --language-model.")
    model = read_language_model(arguments.language_model)
    system, data = validation_set(arguments, arguments.limit)
    return Speech(system.text_encoder, model, list(map(torch.from_numpy, data.utterances)))


class FlashlightWithWords:
    """A decoder of flashlight-text with a lexicon and KenLM.

    Args:
        speech: what it decodes.
        arguments: of the command line.
        folder: where the language model is written for KenLM.

    Raises:
        SystemExit: flashlight-text or KenLM is not installed.
    """

    def __init__(self, speech: Speech, arguments: argparse.Namespace, folder: Path):
        try:
            from flashlight.lib.text import decoder as library
            from flashlight.lib.text.decoder.kenlm import KenLM
            from flashlight.lib.text.dictionary import Dictionary
        except ImportError:
            sys.exit(INSTALL)
        path = arguments.language_model
        if path is None:
            path = folder / "lm.arpa"
            speech.model.write_arpa(path)
        spellings = dict(words_of_model(speech.model, speech.encoder))
        self.words = Dictionary()
        for word in [*spellings, "<unk>"]:
            self.words.add_entry(word)
        model = KenLM(str(path), self.words)
        # The silence token is one more, which is impossible, unless the space plays its part.
        size = speech.encoder.vocab_size
        space = speech.encoder.ids.get(" ")
        self.silence = size if space is None else space
        self.size = max(size, self.silence + 1)
        lexicon = library.Trie(self.size, self.silence)
        for word, tokens in spellings.items():
            ended = [*tokens, *([] if space is None else [space])]
            lexicon.insert(ended, self.words.get_index(word), 0.0)
        options = library.LexiconDecoderOptions(
            beam_size=arguments.beam_size,
            beam_size_token=self.size,
            beam_threshold=1e9,  # prune by the beam size alone
            lm_weight=arguments.alpha * math.log(10),  # its scores are log10
            word_score=arguments.beta,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=True,  # sum over alignments
            criterion_type=library.CriterionType.CTC,
        )
        unknown = self.words.get_index("<unk>")
        self.decoder = library.LexiconDecoder(
            options, lexicon, model, self.silence, 0, unknown, [], False
        )

    def prepare(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities [T, V] as flashlight needs them.

        Its words end in a space, the last one too, which is one more frame here: ours are complete
        at the end of an utterance.
        """
        padded = torch.nn.functional.pad(log_probs, (0, self.size - log_probs.shape[1]), value=-1e4)
        end = torch.full((1, self.size), -1e4)
        end[0, self.silence] = 0.0
        return torch.cat([padded, end]) if self.size == log_probs.shape[1] else padded

    def __call__(self, utterances: list[Tensor]) -> list[tuple[float, str]]:
        """Scores and texts of the best hypotheses for prepared log-probabilities [T, V]."""
        found = []
        for one in utterances:
            best = self.decoder.decode(one.data_ptr(), *one.shape)[0]
            text = " ".join(self.words.get_entry(word) for word in best.words if word >= 0)
            found.append((best.score, text))
        return found


def our_decoder(
    speech: Speech, arguments: argparse.Namespace
) -> tuple[BeamSearchDecoder, Callable[[], list[tuple[float, str]]]]:
    """Our decoder, and a function that gives scores and texts of its best hypotheses."""
    ours = BeamSearchDecoder(
        arguments.beam_size,
        arguments.token_threshold,
        speech.model,
        arguments.alpha,
        arguments.beta,
        lexicon="model",
    )
    ours.set_text_encoder(speech.encoder)
    parts = [
        speech.utterances[i : i + arguments.at_once]
        for i in range(0, len(speech.utterances), arguments.at_once)
    ]
    batches = [
        (pad_sequence(part, batch_first=True), torch.tensor([len(one) for one in part]))
        for part in parts
    ]

    def decode() -> list[tuple[float, str]]:
        found = [best[0] for batch in batches for best in ours.n_best(*batch, 1)]
        return [(score, speech.encoder.decode(tokens)) for score, tokens in found]

    return ours, decode


def compare_with_words(arguments: argparse.Namespace) -> None:
    """Print the times of both decoders with a language model, and how many texts agree."""
    speech = recognised(arguments) if arguments.run else RandomSpeech(arguments).speech
    ours, decode = our_decoder(speech, arguments)
    with tempfile.TemporaryDirectory() as folder:
        theirs = FlashlightWithWords(speech, arguments, Path(folder))
        prepared = [theirs.prepare(one).contiguous() for one in speech.utterances]
        times: list[tuple[float, float]] = []
        for _ in range(arguments.rounds):
            our_time, found = timed(decode)
            their_time, expected = timed(lambda: theirs(prepared))
            times.append((our_time, their_time))
    our_time, their_time = (statistics.median(column) for column in zip(*times, strict=True))
    same = [a[0] - b[0] for a, b in zip(found, expected, strict=True) if a[1] == b[1]]
    frames = sum(map(len, speech.utterances))
    print(
        f"{len(found)} utterances, {frames} frames, {speech.encoder.vocab_size} tokens, "
        f"{len(ours.spelled[0].words) if ours.spelled else 0} words, {arguments.at_once} at once"
    )
    print(
        f"with words : ours {our_time:.2f} s, flashlight {their_time:.2f} s, "
        f"ratio {our_time / their_time:.2f}; {len(same)} of {len(found)} best texts agree, "
        f"their scores to {max(map(abs, same), default=0.0):.1g}"
    )
    for (score, text), (other, expected_text) in zip(found, expected, strict=True):
        if text != expected_text:
            print(
                f"  ours       {score:10.3f}  {text}\n  flashlight {other:10.3f}  {expected_text}"
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
    parser.add_argument("--alpha", type=float, default=0.5, help="of the language model")
    parser.add_argument("--beta", type=float, default=1.0, help="added per word")
    parser.add_argument("--at-once", type=int, default=100, help="utterances in a batch of ours")
    parser.add_argument("--run", type=Path, help="folder of a CTC recogniser's run")
    parser.add_argument("--language-model", type=Path, help="ARPA or KenLM file, with --run")
    parser.add_argument("--set", default="test", help="of the run, with --run (default: test)")
    parser.add_argument("--limit", type=int, default=100, help="utterances, with --run")
    parser.set_defaults(device="cpu", trust=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run_command(lambda: benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> None:
    """Compare with a language model, or without one on peaky log-probabilities and on noise.

    Raises:
        ValueError: an option is out of range, or the run or the language model can't be used.
    """
    for key in ("batch", "frames", "tokens", "beam_size", "rounds", "at_once", "limit"):
        check_whole(f"--{key.replace('_', '-')}", getattr(arguments, key))
    if arguments.words or arguments.run:
        compare_with_words(arguments)
        return
    sizes = f"{arguments.batch} utterances of {arguments.frames} frames, {arguments.tokens} tokens"
    print(f"{sizes}, beam size {arguments.beam_size}, threads: {arguments.threads}")
    for peaky in (True, False):
        compare(arguments, peaky)


if __name__ == "__main__":
    main()
