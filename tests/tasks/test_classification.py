import pytest
import torch

from src.loss.classification import ClassificationLoss
from src.metrics.accuracy import Accuracy
from src.tasks.classification import ClassificationTask

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
BATCH = {"id": ["x", "y", "z"], "label": ["a", "b", "b"], "speaker": ["p", "q", "q"]}


def decoded():
    task = ClassificationTask(["a", "b"])
    batch = BATCH | task.decode(lambda **batch: {"class_logits": LOGITS}, BATCH)
    return task, batch | task.postprocess(**batch)


def test_the_most_probable_class_is_predicted(tmp_path):
    task, batch = decoded()
    assert batch["prediction"] == ["a", "b", "a"]
    assert batch["rows"][2]["target"] == "b" and batch["rows"][2]["speaker"] == "q"
    assert batch["rows"][1]["probability"] == pytest.approx(1 / (1 + torch.tensor(-1.0).exp()))
    task.save(tmp_path, **batch)
    assert (tmp_path / "z.txt").read_text() == "a\n"


def test_classes_and_confusions_are_shown():
    task, batch = decoded()
    classes, confusions = task.sections(batch["rows"])
    assert classes.rows == [["a", 1, 100.0], ["b", 2, 50.0]]
    assert confusions.rows == [["b", "a", 1]]


def test_accuracy_and_that_of_the_most_frequent_class():
    _, batch = decoded()
    metric = Accuracy()
    assert metric.update(**batch) == [1.0, 1.0, 0.0]
    expected = {"": 2 / 3, "majority": 2 / 3, "utterances": 3}
    assert metric.compute() == pytest.approx(expected)
    assert Accuracy().compute() == {}


def test_loss_is_the_mean_cross_entropy():
    loss = ClassificationLoss()(class_logits=LOGITS, class_id=torch.tensor([0, 1, 1]))["loss"]
    own = LOGITS.log_softmax(1)[[0, 1, 2], [0, 1, 1]]
    torch.testing.assert_close(loss, -own.mean())
