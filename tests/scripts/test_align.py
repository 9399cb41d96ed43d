import json
import sys
from types import SimpleNamespace

import pytest

from scripts.align import main
from src.forced_alignment import Emissions, word_times
from src.run import load_run
from src.text_encoder.characters import CharacterEncoder
from tests.demo import SMALL, experiment
from tests.scripts.test_find_suspects import certain
from train import train


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["align.py", *map(str, arguments)])
    main()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("text, possible", [("ab", True), ("aa", False), ("", False)])
def test_only_what_fits_the_frames_is_aligned(text, possible):
    encoder = CharacterEncoder(alphabet="ab")
    system = SimpleNamespace(text_encoder=encoder, stride=160, sample_rate=16000)
    row = Emissions(0, "a", certain([1], 2), encoder.encode(text), text, "")
    assert bool(word_times(system, row)) == possible


def test_command(corpus, tmp_path, monkeypatch, capsys):
    train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *SMALL, "debug=smoke"))
    manifest, out, times = corpus / "train.jsonl", tmp_path / "words.jsonl", tmp_path / "words.ctm"
    rows = read(manifest)
    call(monkeypatch, tmp_path / "r", manifest, out, "--ctm", times, "--margin", 0)
    words = read(out)
    assert [word["text"] for word in words] == " ".join(row["text"] for row in rows).split()
    assert f"{len(words)} words of {len(rows)} rows" in capsys.readouterr().out
    lines = [line.split() for line in times.read_text().splitlines()]
    assert [line[4] for line in lines] == [word["text"] for word in words]
    starts = [word["offset"] for word in words]
    assert [float(line[2]) for line in lines] == pytest.approx(starts, abs=1e-3)
    for row in rows:
        own = [word for word in words if word["audio_filepath"].endswith(row["audio_filepath"])]
        assert {word["speaker"] for word in own} == {row["speaker"]}
        ends = [word["offset"] + word["duration"] for word in own]
        starts = [word["offset"] for word in own]
        assert all(a <= b + 2e-3 for a, b in zip(ends, starts[1:], strict=False))
        assert ends[-1] <= row["duration"] + 1e-6
    seconds = sorted(row["duration"] for row in rows)

    def with_window(*arguments, **options):
        system = load_run(*arguments, **options)
        system.task.window_seconds = seconds[1]
        return system

    with monkeypatch.context() as patch:
        patch.setattr("src.forced_alignment.load_run", with_window)
        call(monkeypatch, tmp_path / "r", manifest, tmp_path / "short.jsonl")
    longer = sum(one > seconds[1] for one in seconds)
    printed = capsys.readouterr().out
    assert longer and f"{longer} rows longer than {seconds[1]:g} s are left out." in printed
    (tmp_path / "only.txt").write_text("the\n")
    call(monkeypatch, tmp_path / "r", manifest, out, "--only", tmp_path / "only.txt")
    chosen = read(out)
    assert {word["text"] for word in chosen} == {"the"}
    for word, plain in zip(chosen, (w for w in words if w["text"] == "the"), strict=True):
        assert word["offset"] <= plain["offset"]  # a margin of 0.1 s, at most up to a neighbour
        assert plain["duration"] - 2e-3 <= word["duration"] <= plain["duration"] + 0.201
    (tmp_path / "only.txt").write_text("zebra\n")
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path / "r", manifest, out, "--only", tmp_path / "only.txt")
    assert capsys.readouterr().err == f"error: {manifest}: none of its words is to be written.\n"
    assert read(out) == chosen
