"""The interface of a task: what to do with the batches of an evaluation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.utils.audio import Recording
from src.utils.sections import Section
from src.utils.windows import Windows


class Task:
    """Decodes, postprocesses, shows and saves batches; by default as little as possible.

    Attributes:
        name: of the task, which `for_task` of an inference config refers to.
        inference: name of the experiment that evaluates its runs; empty: none of src/configs.
        output: batch key of the result that `System(audio)` returns, e.g. the transcripts.
        sort_by: name of the metric by whose scores the table of utterances is sorted, the worst
            first; empty to sort by id.
        window_seconds: longest audio that the model is given at once; a longer recording is cut
            into windows, and what the model says about them is joined. None: never.
        overlap_seconds: by which neighbouring windows overlap at least.
        silence_dbfs: RMS level below which long recordings are split, too; None: nowhere.
        joined: key of the model's output that is joined, log-probabilities [B, T', V].
    """

    name: str = ""
    inference: str = ""
    output: str = ""
    sort_by: str = ""
    window_seconds: float | None = None
    overlap_seconds: float = 0.0
    silence_dbfs: float | None = None
    joined: str = ""

    def windows(self, sample_rate: int, stride: int) -> Windows | None:
        """The windows in which recordings longer than one are run; None: they are run whole.

        Args:
            sample_rate: of the audio, in Hz.
            stride: samples between two output frames of the model.
        """
        if self.window_seconds is None:
            return None
        size, overlap = self.window_seconds * sample_rate, self.overlap_seconds * sample_rate
        silence = 0.0 if self.silence_dbfs is None else 10 ** (self.silence_dbfs / 20)
        return Windows(round(size), round(overlap), stride, sample_rate, silence, self.silent)

    def silent(self, output: Tensor, frames: int) -> Tensor:
        """What the model would say about silence, [frames, V].

        Args:
            output: of the model, [T', V].
            frames: number of frames.
        """
        return output.new_zeros(frames, output.shape[1])

    def decode(self, model: Callable[..., dict[str, Any]], batch: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the model for a batch, with all that needs the model itself, such as search.

        Args:
            model: in evaluation mode; called with the keys of a batch.
            batch: after the transforms of inference; or with recordings longer than a window,
                before them: then the model transforms each window itself. Where the model has a
                constant stride, `frame_seconds` is the time between two output frames.

        Returns:
            Keys to add to the batch.
        """
        return model(**batch)

    def postprocess(self, **batch) -> dict[str, Any]:
        """Keys to add to a decoded batch.

        Args:
            batch: after `decode`, and after the loss if there are targets.

        Returns:
            Keys that the batch doesn't have yet. `rows`, if given, is a list with one dict of
            descriptive columns for each utterance, without its id and scores.
        """
        return {}

    def show(self, writer: Any, step: int, name: str, **batch) -> None:
        """Log a batch to a writer.

        Args:
            writer: experiment tracker.
            step: optimisation step.
            name: of the evaluation, as the prefix of the names that are logged.
            batch: after `postprocess`; `rows` holds the id and scores of each utterance too.
        """

    def picture(self, rows: list[dict]) -> np.ndarray | None:
        """Plot of all utterances of an evaluation: uint8 [height, width, 3], or None.

        Args:
            rows: the table of utterances, with their ids, scores and descriptive columns.
        """
        return None

    def save(self, directory: Path, **batch) -> None:
        """Write the results of each utterance into files named by its id.

        Args:
            directory: an existing folder.
            batch: after `postprocess`.
        """

    # What the page of an evaluation shows ------------------------------------------------------

    def signals(self, item: int, **batch) -> dict[str, Tensor | Recording]:
        """Signals of an utterance that the page plays, at the model's sample rate: title -> [T].

        Args:
            item: index of the utterance in the batch.
            batch: after `postprocess`.
        """
        if "audio" not in batch:
            return {}
        audio = batch["audio"][item]
        sizes = batch.get("audio_length")
        return {"audio": audio if sizes is None else audio[: int(sizes[item])]}

    def illustrate(self, item: int, **batch) -> np.ndarray | None:
        """Picture of an utterance: uint8 [height, width, 3]; None for spectrograms of its signals.

        Args:
            item: index of the utterance in the batch.
            batch: after `postprocess`.
        """
        return None

    def details(self, **batch) -> list[dict]:
        """Facts about each utterance for the page only: text and numbers by name.

        Those whose name begins with `_` are not shown, only given to `sections`.

        Args:
            batch: after `postprocess`.
        """
        return [{} for _ in batch["id"]]

    def alignments(self, row: dict) -> dict[str, list[list[str]]]:
        """Column with a hypothesis -> its alignment with the reference, in runs of one kind.

        Args:
            row: of the table of utterances.

        Returns:
            Lists of [kind, reference, hypothesis], where the kind is `equal`, `substitute`,
            `delete` or `insert`.
        """
        return {}

    def sections(self, rows: list[dict]) -> list[Section]:
        """Tables and charts about an evaluation.

        Args:
            rows: the table of utterances with their details, and `seconds`, `speaker` and `snr`
                (in dB, estimated) where they are known.
        """
        return []
