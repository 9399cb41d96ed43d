import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from src.datasets.demo.corpus import DemoConversations
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.mixtures.conversations import ConversationFolder, Conversations
from src.datasets.mixtures.folders import MixtureFolder
from src.utils.segments import Segment
from tests.demo import sine

RATE = 8000


def conversations(corpus, **options):
    return Conversations(str(corpus / "train.jsonl"), sample_rate=RATE, limit=3, **options)


def test_turns_are_where_the_segments_say(corpus):
    data = conversations(corpus, utterances=6, overlap_prob=0.5)
    assert len(data) == 3
    for index in range(len(data)):
        item = data[index]
        sources, segments = item["sources"], item["segments"]
        torch.testing.assert_close(item["audio"], sources.sum(0))
        assert sources.shape[1] / RATE == pytest.approx(data.durations[index], abs=0.01)
        assert len(segments) == 6 and len({one.speaker for one in segments}) == 2
        names = list(dict.fromkeys(one.speaker for one in segments))
        silent = torch.ones_like(sources, dtype=torch.bool)
        for one in segments:
            own = slice(round(one.start * RATE), round(one.end * RATE) + 2)
            assert sources[names.index(one.speaker), own].any() and one.text
            silent[names.index(one.speaker), own] = False
        assert not sources[silent].any()


def test_turns_have_the_level_of_their_speaker(corpus):
    item = conversations(corpus, utterances=6, low=-30.0, high=-30.0)[0]
    names = list(dict.fromkeys(one.speaker for one in item["segments"]))
    for one in item["segments"]:
        own = slice(round(one.start * RATE), round(one.end * RATE))
        spoken = item["sources"][names.index(one.speaker), own]
        active = spoken[spoken.square() > 1e-4 * spoken.square().mean()]
        assert 10 * active.square().mean().log10() == pytest.approx(-30, abs=0.1)


def test_nobody_overlaps_with_himself_and_pauses_are_kept(corpus):
    without = conversations(corpus, utterances=6, overlap_prob=0.0, min_pause=0.3, max_pause=0.4)
    overlapping = conversations(corpus, utterances=12, overlap_prob=1.0, max_overlap=1.0)
    for one, after in zip(without[0]["segments"], without[0]["segments"][1:], strict=False):
        assert 0.3 <= after.start - one.end <= 0.4
    segments = overlapping[1]["segments"]
    assert any(b.start < a.end for a, b in zip(segments, segments[1:], strict=False))
    for name in {one.speaker for one in segments}:
        own = [one for one in segments if one.speaker == name]
        assert all(a.end <= b.start for a, b in zip(own, own[1:], strict=False))


def test_conversations_follow_from_seed_epoch_and_index(corpus):
    first, again = (conversations(corpus, seed=1)[1, 2] for _ in range(2))
    assert torch.equal(first["audio"], again["audio"]) and first["segments"] == again["segments"]
    assert first["segments"] != conversations(corpus, seed=2)[1, 2]["segments"]
    assert first["segments"] != conversations(corpus, seed=1)[0, 2]["segments"]


def test_bad_options_and_manifests_raise(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"2 speakers, too few for conversations of 3"):
        conversations(corpus, num_speakers=3)
    with pytest.raises(ValueError, match=r"utterances: 1; a whole number from 2 on"):
        conversations(corpus, utterances=1)
    row = {"audio_filepath": "a.wav", "duration": 1, "speaker": "a"}
    write_manifest(tmp_path / "m.jsonl", [row | {"text": "x"}, row | {"text": "x"}, row])
    with pytest.raises(ValueError, match=r"m.jsonl, line 3: no text, which conversations need"):
        Conversations(Manifest(tmp_path / "m.jsonl"))


def test_demo_conversations(corpus):
    data = DemoConversations("test", str(corpus), limit=2, utterances=2)
    assert len(data) == 2 and np.isfinite(data.durations).all()


def test_folder_with_and_without_reference(tmp_path):
    for name in ("mix/a.b", "s1/a.b", "s2/a.b"):
        sine(tmp_path / f"{name}.wav")
    item = ConversationFolder(str(tmp_path))[0]
    assert item["recording"].endswith("mix/a.b.wav") and "segments" not in item
    assert len(item["source_files"]) == 2
    (tmp_path / "reference.stm").write_text("a.b 1 A 0.0 1.0 hello\n")
    data = ConversationFolder(str(tmp_path))
    assert data.has_targets and data[0]["segments"] == [Segment("A", 0.0, 1.0, "hello")]
    (tmp_path / "other.stm").write_text("c 1 A 0.0 1.0 hello\n")
    with pytest.raises(ValueError, match=r"other.stm: no segment of .*a.b.wav"):
        ConversationFolder(str(tmp_path), reference=str(tmp_path / "other.stm"))
    (tmp_path / "other.stm").write_text("a.b 1 A 0.0 1.0 hello\nc 1 A 0.0 1.0 hello\n")
    with pytest.raises(ValueError, match=r"other.stm: no recording of c in "):
        ConversationFolder(str(tmp_path), reference=str(tmp_path / "other.stm"))
    with pytest.raises(FileNotFoundError, match=r"none.stm: no such"):
        ConversationFolder(str(tmp_path), reference=str(tmp_path / "none.stm"))


def test_names_of_a_reference_that_files_cannot_have(tmp_path):
    for name in ("a b", "a_b", "c d"):
        sine(tmp_path / f"{name}.wav")
    (tmp_path / "reference.json").write_text(
        json.dumps(
            [
                {"session_id": name, "speaker": "A", "start_time": 0, "end_time": 1, "words": name}
                for name in ("a b", "a_b", "c_d")
            ]
        )
    )
    data = ConversationFolder(str(tmp_path))
    texts = {
        Path(item["path"]).stem: item["segments"][0].text
        for item in map(data.__getitem__, range(3))
    }
    assert texts == {"a b": "a b", "a_b": "a_b", "c d": "c_d"}
    (tmp_path / "other.stm").write_text(
        "".join(f"{name} 1 A 0.0 1.0 hello\n" for name in ("a_b", "x/c_d", "y/c_d"))
    )
    with pytest.raises(ValueError, match=r"x/c_d and y/c_d may both be .*c d.wav; rename one"):
        ConversationFolder(str(tmp_path), reference=str(tmp_path / "other.stm"))


@pytest.mark.parametrize("kind", [ConversationFolder, MixtureFolder])
def test_unreadable_recordings_are_skipped_before_they_are_separated(kind, tmp_path):
    sine(tmp_path / "good.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(99, np.nan), 8000, subtype="FLOAT")
    data = kind(str(tmp_path), sample_rate=8000, on_error="skip")
    items = [data[i] for i in range(len(data))]
    assert [Path(item["path"]).stem for item in items if "recording" in item] == ["good"]
