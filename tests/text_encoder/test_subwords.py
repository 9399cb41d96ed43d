import io

import pytest
import sentencepiece

from src.text_encoder.base import load_text_encoder
from src.text_encoder.subwords import SubwordEncoder, train_subwords

TEXTS = ["the quick brown fox", "the lazy dog", "she sells sea shells", "the sea the sea"]


@pytest.fixture(scope="module")
def encoder():
    return SubwordEncoder(train_subwords(TEXTS, 40))


def test_size_counts_the_blank(encoder):
    assert len(encoder) == encoder.vocab_size == 40
    assert encoder.vocabulary[0] == ""
    assert "▁the" in encoder.vocabulary


def test_frequent_word_is_one_token(encoder):
    assert encoder.encode("The") == [encoder.vocabulary.index("▁the")]


@pytest.mark.parametrize("text", [*TEXTS, "Sea, fox!", ""])
def test_round_trip(encoder, text):
    ids = encoder.encode(text)
    assert 0 not in ids
    assert encoder.decode(ids) == encoder.normalize(text)


def test_unknown_character_is_named(encoder):
    with pytest.raises(ValueError, match="'the m': the character 'm' is not in the vocabulary"):
        encoder.encode("the m")


def test_deterministic_training():
    assert train_subwords(TEXTS, 40) == train_subwords(TEXTS, 40)


@pytest.mark.parametrize(
    ("texts", "size", "reason"),
    [(TEXTS, 5, "smaller"), (TEXTS, 5000, "too high"), ([], 40, "there are no texts")],
)
def test_impossible_size_raises(texts, size, reason):
    with pytest.raises(ValueError, match=f"no subword model of {size} tokens: .*{reason}"):
        train_subwords(texts, size)


def test_model_from_a_file(encoder, tmp_path):
    path = tmp_path / "m.model"
    path.write_bytes(encoder.proto)
    assert SubwordEncoder(str(path)).vocabulary == encoder.vocabulary


def test_missing_model_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.model: no such subword model"):
        SubwordEncoder(tmp_path / "none.model")
    for damaged in (b"nonsense", b""):
        with pytest.raises(ValueError, match="not a sentencepiece model, or damaged"):
            SubwordEncoder(damaged)
    with pytest.raises(ValueError, match="text_encoder, model: 5; the file of"):
        SubwordEncoder(5)


def test_damaged_model_is_named(encoder, tmp_path):
    encoder.save(tmp_path)
    path = tmp_path / "subwords.model"
    path.write_bytes(encoder.proto[: len(encoder.proto) // 2])
    with pytest.raises(ValueError, match=r"subwords\.model: .*damaged"):
        load_text_encoder(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"subwords\.model: no such subword model"):
        load_text_encoder(tmp_path)


def test_save_and_load(encoder, tmp_path):
    encoder.save(tmp_path)
    again = load_text_encoder(tmp_path)
    assert again.vocabulary == encoder.vocabulary
    assert again.encode("The 1st dog") == encoder.encode("the first dog")


def test_all_pieces_are_classes(encoder, tmp_path):
    every = SubwordEncoder(encoder.proto, all_pieces=True)
    assert len(every) == every.model.get_piece_size() + 1 == len(encoder) + 1
    assert every.decode([1]) == "⁇"  # the unknown piece
    assert every.decode(every.encode("the sea")) == "the sea"
    with pytest.raises(ValueError, match="'é' is not in the vocabulary"):
        every.encode("café")
    every.save(tmp_path)
    again = load_text_encoder(tmp_path)
    assert again.vocabulary == every.vocabulary and again.normalizer is None


@pytest.fixture(scope="module")
def with_bytes():
    """A model that spells what its training text lacks in bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return model.getvalue()


def test_bytes_are_joined_to_characters(with_bytes):
    every = SubwordEncoder(with_bytes, all_pieces=True)
    text = "the café 狐"
    ids = every.encode(text)
    assert every.decode(ids) == text
    assert every.decode([i for pair in zip(ids, [0] * len(ids), strict=True) for i in pair]) == text
    assert every.decode(ids[:-1]) == "the café \ufffd"


def test_character_is_named_as_in_the_text(with_bytes):
    with pytest.raises(ValueError, match="'the ж': the character 'ж' is not in the vocabulary"):
        SubwordEncoder(with_bytes).encode("the ж")


@pytest.mark.parametrize("error", [OSError("the disk is gone"), ValueError("line 3: broken")])
def test_errors_of_texts_are_their_own(error):
    def texts():
        yield from TEXTS
        raise error

    with pytest.raises(type(error), match=f"^{error}$"):
        train_subwords(texts(), 40)
