import gzip
import math

import pytest

from src.text_encoder.decoders.ngram import NgramModel

ARPA = """
made by hand

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-2.0\t<unk>
-0.7\ta\t-0.3
-0.9\tb\t-0.2

\\2-grams:
-0.4\t<s> a\t-0.1
-0.6\ta b
-0.8\tb </s>

\\3-grams:
-0.25\t<s> a b

\\end\\
"""


@pytest.fixture(params=["lm.arpa", "lm.arpa.gz"])
def model(request, tmp_path):
    path = tmp_path / request.param
    data = ARPA.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return NgramModel.from_arpa(path)


def test_back_off_by_hand(model):
    ln10 = math.log(10)
    assert model.order == 3
    assert model.log_prob("b", ("<s>", "a")) == pytest.approx(-0.25 * ln10)  # a trigram
    assert model.log_prob("b", ("b", "a")) == pytest.approx(-0.6 * ln10)  # no trigram, no weight
    assert model.log_prob("a", ("<s>", "a")) == pytest.approx((-0.1 - 0.3 - 0.7) * ln10)
    assert model.log_prob("x", ("a", "b")) == pytest.approx((-0.2 - 2.0) * ln10)  # unknown word
    assert model.end_log_prob(("a", "b")) == pytest.approx(-0.8 * ln10)


def test_sentence_by_hand(model):
    # <s> a | <s> a b | b </s>, then one with an unknown word in the middle.
    assert model.sentence_log_prob(["a", "b"]) == pytest.approx(-(0.4 + 0.25 + 0.8) * math.log(10))
    expected = -0.4 + (-0.1 - 0.3 - 2.0) - 1.0
    assert model.sentence_log_prob(["a", "x"]) == pytest.approx(expected * math.log(10))


def test_context_is_truncated_to_model_order(model):
    assert model.extend(("<s>", "a"), "b") == ("a", "b")
    assert model.extend(("a",), "never seen") == ("a", "<unk>")
    assert NgramModel({("a",): (-0.1, 0.0)}).start == ()


def test_unknown_word_without_unk_is_improbable():
    model = NgramModel({("a",): (-0.1, 0.0), ("</s>",): (-0.7, 0.0)})
    assert model.log_prob("b", ()) == pytest.approx(-99 * math.log(10))


@pytest.mark.parametrize("name", ["again.arpa", "again.arpa.gz"])
def test_round_trip(model, tmp_path, name):
    model.write_arpa(tmp_path / name)
    again = NgramModel.from_arpa(tmp_path / name)
    assert again.ngrams == model.ngrams


@pytest.mark.parametrize("line", ["-0.5 a b c", "-0.5", "x a", "-0.5 a zero", "nan a", "-inf a"])
def test_bad_line_is_named(tmp_path, line):
    path = tmp_path / "bad.arpa"
    path.write_text(f"\\data\\\n\\1-grams:\n{line}\n\\end\\\n")
    with pytest.raises(ValueError, match=r"bad\.arpa, line 3: .* is no 1-gram"):
        NgramModel.from_arpa(path)


def test_no_ngrams(tmp_path):
    path = tmp_path / "empty.arpa"
    path.write_text("hello\n")
    with pytest.raises(ValueError, match="holds no n-grams"):
        NgramModel.from_arpa(path)


def test_invalid_section_raises(tmp_path):
    path = tmp_path / "bad.arpa"
    path.write_text("\\data\\\n\\x-grams:\n-0.5 a\n\\end\\\n")
    with pytest.raises(ValueError, match="holds no n-grams"):
        NgramModel.from_arpa(path)


@pytest.mark.parametrize("name", ["cut.arpa.gz", "plain.arpa.gz", "binary.arpa"])
def test_damaged_file(tmp_path, name):
    compressed = gzip.compress(ARPA.encode())
    data = {"cut": compressed[:-20], "plain": ARPA.encode(), "binary": compressed}
    path = tmp_path / name
    path.write_bytes(data[name.split(".")[0]])
    with pytest.raises(ValueError, match=f"{name}: not readable as an ARPA file"):
        NgramModel.from_arpa(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARPA.partition("-0.6")[0], r"ends without \\end\\; the file was cut off"),
        (ARPA.replace("-0.6\ta b\n", ""), "2 2-grams, but 3 are announced"),
        (ARPA.partition("\n\\3-grams:")[0] + "\n\\end\\", "0 3-grams, but 1 are announced"),
    ],
)
def test_truncated_file_is_named(text, message, tmp_path):
    path = tmp_path / "cut.arpa"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"cut\.arpa: {message}"):
        NgramModel.from_arpa(path)
