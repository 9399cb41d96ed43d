"""The library of eSpeak NG: opening it, choosing a voice, and texts as phonemes."""

import ctypes
from functools import cache, lru_cache
from pathlib import Path

SAMPLE_RATE = 22050  # Hz, of every voice
SYNCHRONOUS = 2  # the output mode without threads
UTF8 = 1
IPA = 2
SEPARATOR = "_"  # between the phonemes of a word
CACHED_TEXTS = 100_000


def open_espeak() -> ctypes.CDLL:
    """The library, initialised.

    Raises:
        ValueError: the package espeakng-loader is missing, or the library doesn't start.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise ValueError("eSpeak NG is missing: `pip install espeakng-loader`.") from None
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise ValueError(f"eSpeak NG can't be loaded: {error}.") from None
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(data_folder()).encode(), 0)
    if rate != SAMPLE_RATE:
        raise ValueError(f"eSpeak NG started with {rate} Hz, expected {SAMPLE_RATE}.")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    return library


def data_folder() -> Path:
    """Where eSpeak NG's voices are."""
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


def set_voice(library: ctypes.CDLL, voice: str) -> None:
    """Choose a voice: a base voice and a variant or none, e.g. `en-us+f3`.

    Raises:
        ValueError: there is no such voice; eSpeak NG itself would silently use another one.
    """
    # An unknown base voice returns an error code, but an unknown variant is ignored.
    _, plus, variant = voice.partition("+")
    code = library.espeak_SetVoiceByName(voice.encode())
    if code != 0 or (plus and not (data_folder() / "voices" / "!v" / variant).is_file()):
        raise ValueError(f"eSpeak NG has no voice '{voice}'.")


@cache
def shared_library() -> ctypes.CDLL:
    """The library that this process opens once, to pronounce texts."""
    return open_espeak()


@lru_cache(maxsize=1)  # the library has one voice at a time
def reader(voice: str) -> ctypes.CDLL:
    """The shared library, set to a voice."""
    set_voice(shared_library(), voice)
    return shared_library()


@lru_cache(maxsize=CACHED_TEXTS)
def pronounce(text: str, voice: str) -> tuple[tuple[str, ...], ...]:
    """The words of a text, each as its phonemes in IPA with stress and length marks.

    What eSpeak NG says in one breath is one word: `of the` is `ʌ v ð ə`. Equal texts have equal
    phonemes, whatever was asked before.

    Args:
        text: without punctuation.
        voice: of eSpeak NG, e.g. `en-us`.

    Raises:
        ValueError: eSpeak NG is missing, or has no such voice.
    """
    library, mode = reader(voice), IPA | ord(SEPARATOR) << 8
    rest = ctypes.c_char_p(text.encode())
    clauses = []
    while rest.value is not None:  # each call reads a clause, and None follows the last one
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, mode).decode())
    words = " ".join(clauses).split()
    return tuple(tuple(filter(None, word.split(SEPARATOR))) for word in words)
