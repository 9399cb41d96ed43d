import pytest

from src.text_encoder.normalizer import Normalizer

ENGLISH = {
    "It’s 5 o’clock!": "it's five o'clock",
    "‘It’s here,’ he said.": "it's here he said",
    "He said 'no', didn't he?": "he said no didn't he",
    "THE DOGS' TAILS": "the dogs' tails",
    "'tis": "'tis",
    "well-known — and… so_on": "well known and so on",
    "café naïve": "cafe naive",
    "ﬁne １２": "fine twelve",
    "№ 5 & 6": "number five and six",
    "  many   spaces\t": "many spaces",
    "I ' am": "i am",
    "...": "",
    "": "",
}
RUSSIAN = {
    "Привет, мир!": "привет мир",
    "Ёж – это ёж.": "ёж это ёж",
    "за\u0301мок и\u0306": "замок й",
    "кто-то": "кто то",
    "Д’Артаньян": "д артаньян",
    "1\u00a0234 дома": "одна тысяча двести тридцать четыре дома",
    "№5": "номер пять",
}


@pytest.mark.parametrize(("text", "wanted"), ENGLISH.items())
def test_english(text, wanted):
    assert Normalizer("en")(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), RUSSIAN.items())
def test_russian(text, wanted):
    assert Normalizer("ru")(text) == wanted


@pytest.mark.parametrize(("language", "texts"), [("en", ENGLISH), ("ru", RUSSIAN)])
def test_idempotent(language, texts):
    normalize = Normalizer(language)
    for text in texts:
        assert normalize(normalize(text)) == normalize(text)


def test_yo_is_preserved_or_folded():
    assert Normalizer("ru")("Ёлка, ёж") == "ёлка ёж"
    assert Normalizer("ru", fold_yo=True)("Ёлка, ёж") == "елка еж"
    assert Normalizer("ru", fold_yo=True)("ёж") == "еж"


def test_normalised_text_takes_fast_path(monkeypatch):
    monkeypatch.delattr(Normalizer, "normalize")
    assert Normalizer("en")("don't touch 'em") == "don't touch 'em"
    assert Normalizer("ru")("ёж бежит") == "ёж бежит"


def test_foreign_letters_are_preserved():
    assert Normalizer("en")("Привет, you") == "привет you"
    assert Normalizer("ru")("мой iPhone") == "мой iphone"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("мой iPhone", "мой ифоне"),
        ("Cказал, что хаoc", "сказал что хаос"),  # Latin letters in the place of Cyrillic ones
        ("photo из Café", "фото из кафе"),
        ("Show must go on!", "шов муст го он"),
        ("wi-fiе", "ви фие"),
    ],
)
def test_latin_letters_in_russian(text, wanted):
    normalize = Normalizer("ru", latin="transliterate")
    assert normalize(text) == normalize(normalize(text)) == wanted
    assert Normalizer(**normalize.describe()).latin == "transliterate"


def test_unknown_options():
    with pytest.raises(ValueError, match="latin: 'drop'; keep or transliterate"):
        Normalizer("ru", latin="drop")
    with pytest.raises(ValueError, match="latin: 'transliterate', but the language is 'en'"):
        Normalizer("en", latin="transliterate")


def test_unknown_language():
    with pytest.raises(ValueError, match="text_encoder, language: 'fr'; en or ru"):
        Normalizer("fr")


def test_rebuilt_from_description():
    again = Normalizer(**Normalizer("ru", fold_yo=True).describe())
    assert again("ё") == "е"
    assert "ё" not in again.alphabet
