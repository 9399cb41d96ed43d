"""How texts are normalised before an error rate is computed."""

from collections.abc import Callable

from src.utils.options import check_choice

NORMALIZATIONS = ("own", "none", "whisper_english")


def build_normalization(name: str) -> Callable[[str], str]:
    """A function from a text to the form in which it is scored.

    Args:
        name: `own` and `none` change nothing; `whisper_english` is the normaliser of Whisper
            (Radford et al., 2022, appendix C), with which published error rates are computed. It
            spells English alike, expands contractions and writes numbers as digits.

    Raises:
        ValueError: another name, or the package of the normaliser is missing.
    """
    check_choice("normalization", name, NORMALIZATIONS)
    if name != "whisper_english":
        return str
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise ValueError(
            "normalization: whisper_english needs `pip install whisper-normalizer`."
        ) from None
    normalize = EnglishTextNormalizer()
    return lambda text: " ".join(normalize(text).split())
