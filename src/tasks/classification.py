"""Classification of utterances, such as speaker identification and keyword spotting."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.tasks.base import Task
from src.utils.files import write_beside
from src.utils.options import check_labels
from src.utils.sections import Section, Table


class ClassificationTask(Task):
    """Names the most probable class of each utterance.

    Args:
        labels: names of the classes, in the order of the model's outputs.

    Raises:
        ValueError: the labels are fewer than two, or not different texts.
    """

    name = "classification"
    inference = "inference_classification"
    output = "prediction"
    sort_by = "accuracy"

    def __init__(self, labels: Sequence[str]):
        self.labels = check_labels("task.labels", labels)

    def decode(self, model: Callable[..., dict[str, Any]], batch: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the model, `prediction`, a list of labels, and their `probability` [B].

        Args:
            model: in evaluation mode.
            batch: after the transforms of inference.
        """
        outputs = model(**batch)
        probability, index = outputs["class_logits"].softmax(1).max(1)
        prediction = [self.labels[i] for i in index.tolist()]
        return outputs | {"prediction": prediction, "probability": probability}

    def postprocess(
        self,
        prediction: list[str],
        probability: Any,
        label: list[str] | None = None,
        speaker: list[str] | None = None,
        **_,
    ) -> dict[str, Any]:
        """`rows` with the predictions and their probabilities; and what is known beside.

        Args:
            prediction: labels.
            probability: [B], of the predictions.
            label: the correct ones.
            speaker: name of each utterance's speaker.
        """
        known = {"target": label, "prediction": prediction, "probability": probability.tolist()}
        columns = {name: own for name, own in known.items() if own is not None}
        if speaker is not None and speaker != label:
            columns["speaker"] = speaker
        rows = zip(*columns.values(), strict=True)
        return {"rows": [dict(zip(columns, values, strict=True)) for values in rows]}

    def save(self, directory: Path, id: list[str], prediction: list[str], **_) -> None:
        """Write each prediction to `<id>.txt`.

        Args:
            directory: an existing folder.
            id: names of the utterances.
            prediction: labels.
        """
        for name, own in zip(id, prediction, strict=True):
            with write_beside(directory / f"{name}.txt") as path:
                path.write_text(own + "\n", encoding="utf-8")

    def sections(self, rows: list[dict]) -> list[Section]:
        """Accuracy of each class, and the confusions.

        Args:
            rows: the table of utterances with their details.
        """
        pairs = Counter((row["target"], row["prediction"]) for row in rows if "target" in row)
        totals: Counter[str] = Counter()
        for (label, _), count in pairs.items():
            totals[label] += count
        classes = [
            [label, count, 100 * pairs[label, label] / count] for label, count in totals.items()
        ]
        confusions = [[*pair, count] for pair, count in pairs.most_common() if pair[0] != pair[1]]
        return [
            Table("Classes", ["class", "utterances", "accuracy in %"], sorted(classes)),
            Table("Confusions", ["class", "prediction", "count"], confusions),
        ]
