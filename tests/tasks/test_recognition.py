import pytest
import torch

from src.tasks.recognition import RecognitionTask
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.greedy import GreedyDecoder

ENCODER = CharacterEncoder()


def aligned(text, frames=12):
    """Log-probabilities [T, V] of a text, with a blank after each letter."""
    scores = torch.full((frames, ENCODER.vocab_size), -9.0)
    scores[:, 0] = 0
    for i, token in enumerate(ENCODER.encode(text)):
        scores[2 * i, 0], scores[2 * i, token] = -9.0, 0.0
    return scores.log_softmax(-1)


BATCH = {"id": ["one", "two"], "text": ["a cat", "a b"]}


def model(id, **_):
    return {
        "log_probs": torch.stack([aligned("a cat"), aligned("aab")]),
        "log_probs_length": torch.tensor([12, 12]),
    }


def new_task():
    return RecognitionTask(ENCODER, {"greedy": GreedyDecoder(), "beam": BeamSearchDecoder(5)})


def finished(task, **batch):
    batch |= task.decode(model, batch)
    return batch | task.postprocess(**batch)


def test_hypotheses_of_every_decoder():
    outputs = new_task().decode(model, BATCH)
    assert outputs["prediction"] == outputs["prediction_beam"] == ["a cat", "aab"]
    assert outputs["log_probs"].shape == (2, 12, ENCODER.vocab_size)


def test_rows():
    assert finished(new_task(), **BATCH)["rows"] == [
        {"target": "a cat", "prediction": "a cat", "prediction_beam": "a cat"},
        {"target": "a b", "prediction": "aab", "prediction_beam": "aab"},
    ]


def test_rows_without_references():
    rows = finished(new_task(), id=["one", "two"])["rows"]
    assert rows[0] == {"prediction": "a cat", "prediction_beam": "a cat"}


def test_one_file_per_utterance(tmp_path):
    task = new_task()
    task.save(tmp_path, **finished(task, **BATCH))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "one.txt": "a cat\n",
        "two.txt": "aab\n",
    }


def test_n_best(tmp_path):
    task = RecognitionTask(ENCODER, {"beam": BeamSearchDecoder(20)}, n_best=3)
    outputs = finished(task, **BATCH)
    for found, best in zip(outputs["n_best"], ["a cat", "aab"], strict=True):
        scores, texts = zip(*found, strict=True)
        assert texts[0] == best
        assert len(set(texts)) == 3
        assert sorted(scores, reverse=True) == list(scores)
    task.save(tmp_path, **outputs)
    lines = (tmp_path / "one.nbest.tsv").read_text().splitlines()
    assert lines[0] == "score\ttext"
    assert lines[1].endswith("\ta cat")
    assert len(lines) == 4


def test_n_best_of_a_long_recording():
    # Two pieces; their hypotheses are independent of each other.
    long = {"log_probs": torch.cat([aligned("a cat", 40), aligned("b", 40)])[None]}
    long |= {"log_probs_length": torch.tensor([80]), "windows": torch.tensor([2])}
    task = RecognitionTask(ENCODER, {"beam": BeamSearchDecoder(200)}, n_best=4)
    found = task.decode(lambda id, **_: long, {"id": ["one"]})["n_best"][0]
    whole = {k: v for k, v in long.items() if k != "windows"}
    expected = task.decode(lambda id, **_: whole, {"id": ["one"]})["n_best"][0]
    assert found[0][1] == expected[0][1] == "a catb"
    scores = [score for score, _ in found]
    assert scores[0] == pytest.approx(expected[0][0], abs=0.01)
    assert len(found) == 4
    assert sorted(scores, reverse=True) == scores


def test_n_best_needs_a_beam():
    with pytest.raises(ValueError, match=r"task.n_best: 2; only for beam search as the last"):
        RecognitionTask(ENCODER, {"greedy": GreedyDecoder()}, n_best=2)


def test_table_for_the_writer():
    class Writer:
        def table(self, name, columns, rows, step):
            self.logged = name, columns, rows, step

    task, writer = RecognitionTask(ENCODER, {"greedy": GreedyDecoder()}, rows_logged=2), Writer()
    rows = [{"id": "a", "prediction": "x"}, {"id": "b", "WER": 1 / 3}, {"id": "c"}]
    task.show(writer, 7, "val", rows=rows, id=["a", "b", "c"])
    columns, values = ["id", "prediction", "WER"], [["a", "x", ""], ["b", "", 0.3333]]
    assert writer.logged == ("val/utterances", columns, values, 7)


def test_decoding_that_needs_the_model():
    class Transducer(torch.nn.Module):
        def forward(self, id, **_):
            return {"encoded": torch.ones(len(id), 3)}

        def joint(self, encoded, last):
            return ENCODER.encode("ab")[last]

    class TransducerTask(RecognitionTask):
        def search(self, decoder, model, outputs):
            return [decoder(model.joint, encoded) for encoded in outputs["encoded"]]

    def greedy(joint, encoded):
        return [joint(encoded, last) for last in range(2)]

    task = TransducerTask(ENCODER, {"greedy": greedy})
    assert task.decode(Transducer(), BATCH)["prediction"] == ["ab", "ab"]


def test_no_decoder_raises():
    with pytest.raises(ValueError, match="at least one decoder"):
        RecognitionTask(ENCODER, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 0}, r"task.window_seconds: 0; a number from 2 on, or null\."),
        ({"window_seconds": "long"}, r"task.window_seconds: 'long'; a number from 2 on, or null\."),
        ({"overlap_seconds": 31}, r"task.overlap_seconds: 31; a number above 0, up to 30\."),
        ({"overlap_seconds": 0}, r"task.overlap_seconds: 0; a number above 0, up to 30\."),
        ({"silence_dbfs": 3}, r"task.silence_dbfs: 3; "),
        ({"word_times": "yes"}, r"task.word_times: 'yes'; true or false\."),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        RecognitionTask(ENCODER, {"greedy": GreedyDecoder()}, **options)


def test_word_times(tmp_path):
    task = RecognitionTask(ENCODER, {"greedy": GreedyDecoder()}, word_times=True)
    batch = BATCH | {"frame_seconds": 0.05}
    batch |= task.decode(model, batch)
    first, second = batch["words"][0]
    assert (first.text, second.text) == ("a", "cat")
    assert (first.start, first.end) == (0.0, pytest.approx(0.1))
    assert (second.start, second.end) == (pytest.approx(0.1), pytest.approx(0.425))
    task.save(tmp_path, **batch)
    assert (
        (tmp_path / "one.ctm").read_text().splitlines()[1].startswith("one 1 0.100 0.325 cat 0.9")
    )
    assert (tmp_path / "one.srt").read_text() == "1\n00:00:00,000 --> 00:00:00,425\na cat\n"
    task.save(tmp_path, **batch, trimmed=[0.5, 0.0])  # seconds cut off the recordings
    assert (tmp_path / "one.ctm").read_text().splitlines()[1].startswith("one 1 0.600 0.325 cat")
    with pytest.raises(ValueError, match="word_times: true needs log_probs at a constant stride"):
        task.decode(model, BATCH)
