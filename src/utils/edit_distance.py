"""Error rates of single utterances, counted by jiwer."""

import math

import jiwer


def word_error_rate(reference: str, prediction: str) -> float:
    """WER of one utterance: word errors over reference words."""
    return error_rate(jiwer.process_words([reference], [prediction]))


def character_error_rate(reference: str, prediction: str) -> float:
    """CER of one utterance: character errors over reference characters, spaces included."""
    return error_rate(jiwer.process_characters([reference], [prediction]))


def error_rate(counts: jiwer.WordOutput | jiwer.CharacterOutput) -> float:
    """Errors over reference length; 0 if both are 0, infinite for errors without a reference."""
    errors = counts.substitutions + counts.deletions + counts.insertions
    length = counts.hits + counts.substitutions + counts.deletions
    if length == 0:
        return math.inf if errors else 0.0
    return errors / length
