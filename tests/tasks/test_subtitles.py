import re

from src.tasks.subtitles import LINE, ctm, srt, timestamp
from src.text_encoder.alignment import Word

TIME = r"(\d\d):(\d\d):(\d\d),(\d{3})"


def seconds(parts):
    hours, minutes, whole, milliseconds = map(int, parts)
    return 3600 * hours + 60 * minutes + whole + milliseconds / 1000


def parse(text):
    """(start, end, lines) of each subtitle; anything that isn't SubRip raises."""
    cues = []
    for number, block in enumerate(text.rstrip("\n").split("\n\n"), start=1):
        index, times, *lines = block.split("\n")
        match = re.fullmatch(f"{TIME} --> {TIME}", times)
        assert int(index) == number
        cues.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), lines))
    return cues


def words(count, pause_after=()):
    result, at = [], 3599.0
    for i in range(count):
        result.append(Word(f"word{i}", at, at + 0.3, 0.5))
        at += 1.3 if i in pause_after else 0.35
    return result


def test_subtitles():
    said = words(100, pause_after=(4, 50))
    cues = parse(srt(said))
    assert " ".join(" ".join(lines) for _, _, lines in cues) == " ".join(w.text for w in said)
    assert all(len(lines) <= 2 and all(len(line) <= LINE for line in lines) for *_, lines in cues)
    assert all(0 < end - start <= 7 for start, end, _ in cues)
    assert all(a[1] <= b[0] for a, b in zip(cues, cues[1:], strict=False))
    assert cues[0][2] == ["word0 word1 word2 word3 word4"]
    assert srt([]) == ""


def test_long_word_has_a_subtitle_of_its_own():
    cues = parse(srt([Word("a", 0, 1, 1.0), Word("b" * 60, 1, 10, 1.0), Word("c", 10, 11, 1.0)]))
    assert [lines for *_, lines in cues] == [["a"], ["b" * 60], ["c"]]


def test_timestamp():
    assert timestamp(0) == "00:00:00,000"
    assert timestamp(3661.2345) == "01:01:01,234"
    assert timestamp(59.9996) == "00:01:00,000"


def test_ctm():
    text = ctm("my talk", [Word("hello", 1.25, 1.5, 0.987654)])
    assert text == "my_talk 1 1.250 0.250 hello 0.9877\n"
