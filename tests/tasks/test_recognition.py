import pytest
import torch

from src.tasks.recognition import RecognitionTask
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.greedy import GreedyDecoder

ENCODER = CharacterEncoder()


def spoken(text, frames=12):
    """Log-probabilities that say a text, a blank after each letter."""
    scores = torch.full((frames, ENCODER.n_tokens), -9.0)
    scores[:, 0] = 0
    for i, token in enumerate(ENCODER.encode(text)):
        scores[2 * i, 0], scores[2 * i, token] = -9.0, 0.0
    return scores.log_softmax(-1)


@pytest.fixture
def batch():
    return {
        "id": ["one", "two"],
        "log_probs": torch.stack([spoken("a cat"), spoken("aab")]),
        "log_probs_length": torch.tensor([12, 12]),
        "text": ["a cat", "a b"],
    }


def task():
    return RecognitionTask(ENCODER, {"greedy": GreedyDecoder(), "beam": BeamSearchDecoder(5)})


def test_every_decoder_has_its_key(batch):
    found = task().postprocess(**batch)
    assert found["prediction"] == found["prediction_beam"] == ["a cat", "aab"]
    assert [row["id"] for row in found["rows"]] == ["one", "two"]
    assert [row["WER"] for row in found["rows"]] == [0, 1]
    assert found["rows"][1]["CER"] == pytest.approx(1 / 3, abs=1e-4)


def test_without_transcripts_there_are_no_rates(batch):
    del batch["text"]
    rows = task().postprocess(**batch)["rows"]
    assert rows[0] == {"id": "one", "prediction": "a cat", "prediction_beam": "a cat"}


def test_one_file_for_each_utterance(batch, tmp_path):
    one = task()
    one.save_batch(tmp_path, **batch, **one.postprocess(**batch))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "one.txt": "a cat\n",
        "two.txt": "aab\n",
    }


def test_table_for_the_writer(batch):
    class Writer:
        def table(self, name, columns, rows, step):
            self.seen = name, columns, rows, step

    one, writer = task(), Writer()
    one.log_batch(writer, 7, "val", **one.postprocess(**batch))
    name, columns, rows, step = writer.seen
    assert (name, step, len(rows)) == ("val/utterances", 7, 2)
    assert columns == ["id", "WER", "CER", "target", "prediction", "prediction_beam"]


def test_a_decoder_is_needed():
    with pytest.raises(ValueError, match="at least one decoder"):
        RecognitionTask(ENCODER, {})
