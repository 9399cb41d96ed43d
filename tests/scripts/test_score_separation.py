import numpy as np
import pytest
import soundfile

from tests.demo import run_script
from tests.programs import call_script

RATE = 8000


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


@pytest.fixture
def folders(tmp_path):
    """References of two speakers, and estimates with them swapped and noise 20 dB below."""
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        sources = 0.1 * draw.standard_normal((2, RATE))
        noise = 0.01 * draw.standard_normal((2, RATE))
        write(tmp_path / "references" / "mix" / f"{name}.wav", sources.sum(0))
        for k in (1, 2):
            write(tmp_path / "references" / f"s{k}" / f"{name}.wav", sources[k - 1])
            write(tmp_path / "estimates" / f"s{3 - k}" / f"{name}.flac", (sources + noise)[k - 1])
    return tmp_path / "references", tmp_path / "estimates"


def values_of(printed):
    return {line.split()[0]: float(line.split()[1]) for line in printed.splitlines()[1:]}


def test_scores_by_hand(folders):
    printed = run_script("score_separation", *folders).stdout
    assert printed.startswith("2 mixtures of 2 speakers\n")
    values = values_of(printed)
    assert values["SI-SDR"] == pytest.approx(20, abs=0.5)
    assert values["SI-SDRi"] == pytest.approx(20, abs=0.5)  # two equally loud speakers: 0 dB before
    assert values["SDRi"] == pytest.approx(20, abs=1.5)


def test_without_mixtures_sum_of_references_is_used(folders):
    expected = values_of(call_script("score_separation", *folders).stdout)
    for path in (folders[0] / "mix").iterdir():
        path.unlink()
    (folders[0] / "mix").rmdir()
    assert values_of(call_script("score_separation", *folders).stdout) == pytest.approx(
        expected, abs=2e-3
    )


def test_errors_name_the_file(folders):
    references, estimates = folders
    write(estimates / "s1" / "a.flac", np.zeros(10))
    done = call_script("score_separation", *folders, code=1)
    assert "a.flac: 10 samples at 8000 Hz, its reference" in done.stderr
    (estimates / "s1" / "a.flac").unlink()
    write(estimates / "s1" / "a.1.wav", np.zeros(RATE))  # that of another mixture
    done = call_script("score_separation", *folders, code=1)
    assert done.stderr.endswith(f"error: {estimates / 's1'}: no a.wav in it.\n")
    done = call_script("score_separation", references, references / "mix", code=1)
    assert done.stderr == f"error: {references / 'mix'}: no s1/ in it.\n"
    (estimates / "s3").mkdir()
    done = call_script("score_separation", *folders, code=1)
    assert "3 speakers, the references have 2" in done.stderr
