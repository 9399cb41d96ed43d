from src.tasks.base import Task


def test_defaults_add_only_the_outputs_of_the_model(tmp_path):
    task, batch = Task(), {"id": ["a"], "audio": 1}
    assert task.decode(lambda audio, **_: {"double": 2 * audio}, batch) == {"double": 2}
    assert task.postprocess(**batch) == {} and task.picture([{"id": "a"}]) is None
    task.show(None, 0, "val", **batch)
    task.save(tmp_path, **batch)
    assert not list(tmp_path.iterdir())
    assert (task.output, task.sort_by) == ("", "")
