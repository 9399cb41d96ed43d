"""Files of words with times: NIST's .ctm and SubRip's .srt."""

from src.text_encoder.alignment import Word

PAUSE = 0.6  # seconds without a word, after which a new subtitle begins
LONGEST = 7.0  # seconds of a subtitle
LINE = 42  # characters
LINES = 2


def ctm(recording: str, words: list[Word]) -> str:
    """Lines `<recording> 1 <start> <duration> <word> <confidence>`, times in seconds.

    Args:
        recording: its name, in which white space becomes `_`, because fields are split by it.
        words: of the recording.
    """
    name = "_".join(recording.split())
    return "".join(
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.4f}\n"
        for word in words
    )


def srt(words: list[Word]) -> str:
    """Numbered subtitles, each of at most 2 lines of 42 characters and 7 s, broken at pauses.

    Args:
        words: of a recording; one that is longer than a line or 7 s isn't cut.
    """
    cues = []
    for number, cue in enumerate(subtitles(words), start=1):
        start, end = (timestamp(seconds) for seconds in (cue[0].start, cue[-1].end))
        cues.append(f"{number}\n{start} --> {end}\n" + "\n".join(lines(cue)) + "\n")
    return "\n".join(cues)


def subtitles(words: list[Word]) -> list[list[Word]]:
    """The words of each subtitle."""
    cues: list[list[Word]] = []
    for word in words:
        last = cues[-1] if cues else []
        fits = (
            last
            and word.start - last[-1].end < PAUSE
            and word.end - last[0].start <= LONGEST
            and len(lines([*last, word])) <= LINES
        )
        if fits:
            last.append(word)
        else:
            cues.append([word])
    return cues


def lines(words: list[Word]) -> list[str]:
    """The words in lines of at most 42 characters."""
    broken = [words[0].text]
    for word in words[1:]:
        if len(broken[-1]) + 1 + len(word.text) <= LINE:
            broken[-1] += f" {word.text}"
        else:
            broken.append(word.text)
    return broken


def timestamp(seconds: float) -> str:
    """Seconds as `hours:minutes:seconds,milliseconds`."""
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milliseconds:03}"
