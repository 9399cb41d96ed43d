"""Speech recognition: from the outputs of a model to transcripts."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.tasks.base import Task
from src.tasks.error_analysis import analyse, is_hypothesis, word_alignment
from src.tasks.subtitles import ctm, srt
from src.text_encoder.alignment import align_batch, words_of
from src.text_encoder.decoders.base import BLANK
from src.text_encoder.decoders.beam import Hypothesis
from src.text_encoder.pieces import best_combinations, in_pieces, joined
from src.utils.files import write_beside
from src.utils.options import check_choice, check_number, check_whole
from src.utils.sections import Section

IMPOSSIBLE = -50.0  # log-probability
SPARE = 4  # hypotheses searched for each that is wanted, since several may have the same text
SHORTEST_WINDOW = 2.0  # seconds; longer than the audio of a checkpoint's self-test


class RecognitionTask(Task):
    """Decodes the outputs of a model to text.

    The system runs the model on a recording that is longer than a window in overlapping windows,
    and joins the log-probabilities, which are decoded in pieces that are cut in pauses. A language
    model takes each piece as a sentence. Shorter recordings are decoded whole.

    Subclasses override `search` for models whose decoding needs the model itself, e.g. transducers.

    Args:
        text_encoder: turns token ids into text.
        decoders: name -> decoder. The first one's hypotheses are `prediction`, those of any other
            `prediction_<name>`. A decoder with a method `set_text_encoder` is given the encoder.
        rows_logged: number of utterances in the table that the writer gets.
        window_seconds: longest audio that the model is given at once; None: any.
        overlap_seconds: by which neighbouring windows overlap at least.
        silence_dbfs: RMS level below which recordings longer than a window are split, too, so that
            long silence is not part of what the model is given; None: nowhere.
        word_times: whether the words of the last decoder are aligned with the audio and saved with
            their times. They are then what `System(audio)` returns, a list of `Word`.
        n_best: number of hypotheses of the last decoder that are saved with their scores; None:
            only the best one, without. Without `word_times` they are then what `System(audio)`
            returns, a list of (score, text), the best first.

    Raises:
        ValueError: there is no decoder, a value is out of range, or the last decoder does not
            give several hypotheses.
    """

    name = "recognition"
    inference = "inference_asr"
    output = "prediction"
    sort_by = "WER"

    joined = "log_probs"

    def __init__(
        self,
        text_encoder,
        decoders: dict[str, Callable],
        rows_logged: int = 10,
        window_seconds: float | None = 60.0,
        overlap_seconds: float = 8.0,
        silence_dbfs: float | None = -70.0,
        word_times: bool = False,
        n_best: int | None = None,
    ):
        check_whole("task.rows_logged", rows_logged, low=0)
        check_number(
            "task.window_seconds", window_seconds, SHORTEST_WINDOW, inclusive=True, optional=True
        )
        longest = math.inf if window_seconds is None else window_seconds / 2
        check_number("task.overlap_seconds", overlap_seconds, high=longest)
        check_number("task.silence_dbfs", silence_dbfs, -math.inf, high=0.0, optional=True)
        check_choice("task.word_times", word_times, (True, False))
        check_whole("task.n_best", n_best, optional=True)
        if not decoders:
            raise ValueError("task.decoders is empty: name at least one decoder, e.g. greedy.")
        if n_best and not hasattr(list(decoders.values())[-1], "n_best"):
            raise ValueError(f"task.n_best: {n_best}; only for beam search as the last decoder.")
        for decoder in decoders.values():
            if hasattr(decoder, "set_text_encoder"):
                decoder.set_text_encoder(text_encoder)
        self.text_encoder, self.decoders = text_encoder, decoders
        self.rows_logged = rows_logged
        self.window_seconds, self.overlap_seconds = window_seconds, overlap_seconds
        self.silence_dbfs, self.word_times = silence_dbfs, word_times
        self.n_best = n_best
        if word_times or n_best:
            self.output = "words" if word_times else "n_best"

    def decode(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the model, and the hypotheses of every decoder.

        Args:
            model: in evaluation mode.
            batch: after the transforms of inference.

        Returns:
            The outputs, `prediction`, and `prediction_<name>` of each further decoder: a list of
            transcripts. With `word_times` also `words`, the last decoder's as lists of `Word`; with
            `n_best` also `n_best`, the last decoder's as lists of (score, text).

        Raises:
            ValueError: `word_times` for a model without CTC's frames.
        """
        outputs = model(**batch)
        pieces = in_pieces(outputs, len(batch["id"]))
        predictions: dict[str, list] = {}
        for i, (name, decoder) in enumerate(self.decoders.items()):
            if self.n_best and i == len(self.decoders) - 1:
                count = SPARE * self.n_best
                found = [self.several(decoder, part.outputs, count) for part in pieces]
                tokens = [[own[0][1] if own else [] for own in part] for part in found]
                predictions["n_best"] = self.best_texts(
                    best_combinations(pieces, found, len(batch["id"]), count)
                )
            else:
                tokens = [self.search(decoder, model, part.outputs) for part in pieces]
            key = f"prediction_{name}" if i else "prediction"
            whole = joined(pieces, tokens, len(batch["id"]))
            predictions[key] = [self.text_encoder.decode(ids) for ids in whole]
        if self.word_times:
            if "log_probs" not in outputs or "frame_seconds" not in batch:
                raise ValueError("task.word_times: true needs log_probs at a constant stride.")
            spans = joined(
                pieces,
                [align_batch(*pair) for pair in zip(pieces, tokens, strict=True)],
                len(batch["id"]),
            )
            seconds, vocabulary = batch["frame_seconds"], self.text_encoder.vocabulary
            predictions["words"] = [words_of(own, vocabulary, seconds) for own in spans]
        return outputs | predictions

    def silent(self, output: Tensor, frames: int) -> Tensor:
        """Log-probabilities [frames, V] of silence: blanks, and a space where there is room for it.

        Args:
            output: of the model, [T', V].
            frames: number of frames.
        """
        tokens = torch.zeros(frames, dtype=torch.int64, device=output.device)
        if frames:
            tokens[frames // 2] = self.text_encoder.ids.get(" ", BLANK)
        silence = output.new_full((frames, output.shape[1]), IMPOSSIBLE)
        return silence.scatter_(1, tokens[:, None], 0.0)

    def search(self, decoder: Any, model: Any, outputs: dict[str, Any]) -> list[list[int]]:
        """Token ids of each utterance by one decoder; here, by a CTC decoder.

        Args:
            decoder: one of `decoders`.
            model: not used by CTC.
            outputs: of the model: `log_probs` [B, T, V] and `log_probs_length` [B].
        """
        return decoder(outputs["log_probs"].float().cpu(), outputs["log_probs_length"].cpu())

    def several(self, decoder: Any, outputs: dict[str, Any], count: int) -> list[list[Hypothesis]]:
        """Up to `count` hypotheses of each utterance by a beam search, the best first."""
        log_probs, lengths = outputs["log_probs"], outputs["log_probs_length"]
        return decoder.n_best(log_probs.float().cpu(), lengths.cpu(), count)

    def best_texts(self, hypotheses: list[list[Hypothesis]]) -> list[list[tuple[float, str]]]:
        """For each utterance the `n_best` best different texts, each with its highest score."""
        found: list[list[tuple[float, str]]] = []
        for own in hypotheses:
            scores: dict[str, float] = {}
            for score, tokens in own:
                scores.setdefault(self.text_encoder.decode(tokens), score)
            found.append([(score, text) for text, score in scores.items()][: self.n_best])
        return found

    def postprocess(self, text: list[str] | None = None, **batch) -> dict[str, Any]:
        """`rows` with the hypotheses, and `target` and `speaker` where they are known.

        Args:
            text: references.
            batch: holds the hypotheses, and perhaps `speaker`, a list of names, and `raw_text`,
                the references before their normalisation, which become a column if they differ.
        """
        columns = {} if text is None else {"target": text}
        columns |= predictions_of(batch)
        for key in ("speaker", "raw_text"):
            if key in batch:
                columns[key] = batch[key]
        if columns.get("raw_text") == text:
            columns.pop("raw_text", None)
        return {
            "rows": [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        }

    def show(self, writer: Any, step: int, name: str, rows: list[dict], **_) -> None:
        """Log a table of the first utterances.

        Args:
            writer: experiment tracker.
            step: optimisation step.
            name: of the evaluation.
            rows: ids, scores, references and hypotheses.
        """
        rows = rows[: self.rows_logged]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        values = [[rounded(row.get(column, "")) for column in columns] for row in rows]
        writer.table(f"{name}/utterances", columns, values, step)

    def save(self, directory: Path, id: list[str], **batch) -> None:
        """Write each transcript of the last decoder, usually the best one, to `<id>.txt`.

        With `word_times` also `<id>.ctm` and `<id>.srt`, whose times count from the start of the
        recording before trimming; with `n_best` also `<id>.nbest.tsv`.

        Args:
            directory: an existing folder.
            id: names of the utterances.
            batch: holds the hypotheses, and perhaps `trimmed`, the seconds cut off each recording.
        """
        transcripts = list(predictions_of(batch).values())[-1]
        for name, transcript in zip(id, transcripts, strict=True):
            write_text(directory / f"{name}.txt", transcript + "\n")
        starts = batch.get("trimmed", [0.0] * len(id))
        aligned = batch["words"] if self.word_times else []
        for name, start, words in zip(id, starts, aligned, strict=False):
            words = [replace(one, start=one.start + start, end=one.end + start) for one in words]
            write_text(directory / f"{name}.ctm", ctm(name, words))
            write_text(directory / f"{name}.srt", srt(words))
        for name, hypotheses in zip(id, batch["n_best"] if self.n_best else [], strict=False):
            lines = [f"{score:.4f}\t{text}\n" for score, text in hypotheses]
            write_text(directory / f"{name}.nbest.tsv", "".join(["score\ttext\n", *lines]))

    def details(self, id: list[str], **batch) -> list[dict]:
        """Words with their times, where they were aligned.

        Args:
            id: names of the utterances.
            batch: after `postprocess`.
        """
        if not self.word_times:
            return [{} for _ in id]
        return [
            {"words": [[word.text, round(word.start, 3), round(word.end, 3)] for word in words]}
            for words in batch["words"]
        ]

    def alignments(self, row: dict) -> dict[str, list[list[str]]]:
        """The words of each decoder's hypothesis, aligned with the reference.

        Args:
            row: of the table of utterances; without `target` there are no alignments.
        """
        if "target" not in row:
            return {}
        columns = filter(is_hypothesis, row)
        return {column: word_alignment(row["target"], row[column]) for column in columns}

    def sections(self, rows: list[dict]) -> list[Section]:
        """Confusions, and error rates by speaker, length and speaking rate, of each decoder.

        Args:
            rows: the table of utterances with their details.
        """
        scored = [row for row in rows if "target" in row]
        columns = [column for column in (scored[0] if scored else ()) if is_hypothesis(column)]
        return [section for column in columns for section in analyse(scored, column)]


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8."""
    with write_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def predictions_of(batch: dict[str, Any]) -> dict[str, list[str]]:
    """The hypotheses of every decoder in a batch, by key."""
    return {key: value for key, value in batch.items() if is_hypothesis(key)}


def rounded(value: Any) -> Any:
    """A number with four decimals; anything else as it is."""
    return round(value, 4) if isinstance(value, float) else value
