import sys

import pytest
import torch

from scripts import benchmark_beam_search as script

SMALL = ["benchmark", "--batch", "2", "--frames", "30", "--beam-size", "10", "--rounds", "1"]


def test_missing_flashlight_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    monkeypatch.setattr(sys, "argv", SMALL)
    with pytest.raises(SystemExit, match="pip install flashlight-text"):
        script.main()


def test_prints_both_times(monkeypatch, capsys):
    pytest.importorskip("flashlight.lib.text.decoder")
    monkeypatch.setattr(sys, "argv", SMALL)
    script.main()
    assert capsys.readouterr().out.count("2 of 2 best hypotheses agree") == 2


@pytest.mark.parametrize("tokens", ["29", "64"])
def test_words_agree(tokens, monkeypatch, capsys):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    more = ["--words", "20", "--tokens", tokens]
    monkeypatch.setattr(sys, "argv", [*SMALL, *more])
    monkeypatch.setattr(script, "SENTENCES", 100)
    script.main()
    assert "2 of 2 best texts agree" in capsys.readouterr().out


def test_run_needs_a_language_model(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*SMALL, "--run", "RUN"])
    with pytest.raises(SystemExit):
        script.main()
    assert "--run: needs --language-model." in capsys.readouterr().err


@pytest.mark.parametrize("peaky", [True, False])
def test_log_probs(peaky):
    log_probs = script.random_log_probs(2, 50, 29, seed=0, peaky=peaky)
    assert torch.allclose(log_probs.exp().sum(dim=-1), torch.ones(2, 50), atol=1e-5)
    assert (log_probs.argmax(dim=-1) == 0).float().mean() > 0.5 or not peaky
    assert torch.equal(log_probs, script.random_log_probs(2, 50, 29, seed=0, peaky=peaky))
