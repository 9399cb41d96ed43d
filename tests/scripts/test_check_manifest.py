import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.demo import sine

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_manifest.py"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the script in this process: exit code, standard output, standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return exit.value.code, *capsys.readouterr()

    return call


def line(path, duration=1.0, **values):
    row = {"audio_filepath": path.name, "duration": duration, "text": "good day"} | values
    return json.dumps(row, ensure_ascii=False)


def faulty_lines(folder):
    """Good rows on odd lines, and a planted fault on each even one, with the words for it."""
    good = sine(folder / "good.wav")
    noise, header, silent = folder / "noise.flac", folder / "header.wav", folder / "silent.wav"
    noise.write_bytes(b"fLaC and then nothing of use")
    soundfile.write(header, np.zeros(0), 16000)
    soundfile.write(silent, np.zeros(16000), 16000)
    faults = {
        line(noise): "not readable as audio",
        line(good, 2.0): "lasts 1.00 s, the row says 2.00 s",
        line(good, text=" - "): "an empty text",
        line(header): "a header without audio",
        line(good, text="до свидания"): "the character 'д' is not in the vocabulary",
        line(good, text="a longer text than that"): "impossible for CTC",
        line(folder / "none.wav"): "no such audio file",
        '{"audio_filepath": "good.wav", "dura': "not JSON",
    }
    return line(good), faults


def test_every_bad_row_is_listed(tmp_path):
    good, faults = faulty_lines(tmp_path)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(f"{good}\n{fault}\n" for fault in faults), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(manifest), "--frames-per-second", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(faults) == 8
    for i, (printed, words) in enumerate(zip(lines, faults.values(), strict=True)):
        assert printed.startswith(f"line {2 * (i + 1)}: ")
        assert words in printed
    assert "8 of 16 rows are bad" in done.stderr


def test_good_manifest(tmp_path, run):
    good = sine(tmp_path / "good.wav")
    rows = [line(good), "", line(good, text="до свидания"), line(good, 0.5, offset=0.5)]
    (tmp_path / "m.jsonl").write_text("\r\n".join(rows), encoding="utf-8-sig")
    code, output, _ = run(tmp_path / "m.jsonl", "--alphabet", "ru")
    assert code == 1  # Latin letters are not Russian
    assert [text.split(":")[0] for text in output.splitlines()] == ["line 1", "line 4"]
    (tmp_path / "m.jsonl").write_text("\r\n".join(rows[:2] + rows[3:]), encoding="utf-8-sig")
    code, output, _ = run(tmp_path / "m.jsonl")
    assert (code, output) == (0, "")


def test_errors_print_one_line(run):
    code, _, error = run("none.jsonl")
    assert (code, error) == (1, "error: none.jsonl: no such manifest.\n")
    code, _, error = run(SCRIPT.parent)
    assert (code, error) == (1, f"error: {SCRIPT.parent}: a folder, not a manifest.\n")
    code, _, error = run(__file__, "--alphabet", "")
    assert (code, error) == (
        1,
        "error: text_encoder, alphabet: ''; text with at least one character.\n",
    )
