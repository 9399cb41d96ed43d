"""A separator that is trained through a recogniser: from two runs to one, and its use."""

import json

import jiwer
import pytest
import soundfile
import torch
import torch.nn.functional as F

from inference import infer
from src.building import build_system
from src.conversation import ConversationRuns
from src.datasets.loading.collate import collate
from src.datasets.mixtures.dynamic import DynamicMixtures
from src.datasets.mixtures.timeline import Timeline
from src.interop.initialization import adopt_configs, adopted_text_encoder, initialize
from src.loss.source_ctc import SourceCTC
from src.metrics.wer import VoicesWER
from src.run import Run, load_run
from src.text_encoder.characters import CharacterEncoder
from src.trainer.setup import open_dataset
from src.utils.si_sdr import si_sdr
from tests.demo import SMALL, composed, experiment
from tests.golden import FIXTURES
from train import train

SEPARATOR = ["model.d_model=8", "model.num_layers=1", "model.kernel_size=64"]
MIXTURES = ["datasets.train.segment=0.5", "dataloader.max_seconds=2"]


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A separator at 8 kHz and a recogniser at 16 kHz."""
    folder = tmp_path_factory.mktemp("joint")
    options = [*SEPARATOR, *MIXTURES, "debug=smoke"]
    train(experiment("separation_mossformer2", corpus, folder / "s", *options))
    train(experiment("asr_deepspeech2", corpus, folder / "r", *SMALL, "debug=smoke"))
    return folder


def joint(runs, corpus, name, *options, separator="s", recogniser="r"):
    sources = [f"init.separator.source={runs / separator}"]
    sources += [f"init.recogniser.source={runs / recogniser}"]
    return experiment("separation_recognition", corpus, runs / name, *sources, *options)


def built(config):
    """The system of a joint experiment with the weights of its sources."""
    adopt_configs(config)
    system = build_system(config, adopted_text_encoder(config))
    initialize(system.model, config)
    return system


@pytest.fixture(scope="module")
def trained(runs, corpus):
    """The recogniser is frozen in one run and trained in the other."""
    train(joint(runs, corpus, "frozen", "debug=smoke", "trainer.test_on=[]"))
    train(joint(runs, corpus, "both", "debug=smoke", "trainer.freeze.recogniser=0"))
    return runs


def changed(run, source, part):
    """Which of a source's weights and statistics a joint run has changed."""
    new, old = Run(run).read_weights("last"), Run(source).read_weights("best")
    assert {f"{part}.{name}" for name in old} <= new.keys()
    return {name for name, value in old.items() if not torch.equal(new[f"{part}.{name}"], value)}


# The loss and the metric ------------------------------------------------------------------


def test_loss_equals_that_of_each_voice():
    draw = torch.Generator().manual_seed(1)
    sources = torch.randn(3, 2, 800, generator=draw)
    estimates = sources + 0.5 * torch.randn(3, 2, 800, generator=draw)
    estimates[1] = estimates[1].flip(0)  # the second estimate is of the first source
    sources[2, 1] = 0
    log_probs = torch.randn(3, 2, 12, 6, generator=draw).log_softmax(-1)
    frames, texts = [12, 9, 12], [["ab", "cde"], ["aab", "e"], ["bc", ""]]
    tokens = [[torch.tensor(list(text.encode())).long() - 96 for text in own] for own in texts]
    padded = [torch.nn.utils.rnn.pad_sequence(own, batch_first=True) for own in tokens]
    items = [{"id": str(i), "source_tokens": own} for i, own in enumerate(padded)]
    batch = collate(items) | {
        "log_probs": log_probs,
        "log_probs_length": torch.tensor(frames),
        "estimates": estimates,
        "sources": sources,
        "sources_length": torch.tensor([800, 700, 800]),
        "audio": sources.sum(1),
    }
    expected = []
    for item, voice, source in [(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1), (2, 0, 0)]:
        own = tokens[item][source]
        values = log_probs[item, voice, : frames[item], None]
        ctc = F.ctc_loss(values, own[None], [frames[item]], [len(own)], reduction="sum")
        expected.append(ctc / len(own))
    loss = SourceCTC()(**batch)["loss"]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    in_order = batch | {
        "permutation": torch.tensor([[0, 1], [1, 0], [0, 1]]),
        "log_probs": torch.stack([log_probs[0], log_probs[1].flip(0), log_probs[2]]),
    }
    torch.testing.assert_close(SourceCTC()(**in_order)["loss"], loss)
    assert SourceCTC()(**batch | {"sources": 0 * sources})["loss"] == 0


def test_word_errors_of_voices():
    references, hypotheses = ["a b | c", "d | ", " | "], ["a x | c c", "d | e", "f | g"]
    metric = VoicesWER()
    scores = metric.update(text=references, prediction=hypotheses)
    assert scores == [pytest.approx(2 / 3), 0.0, 0.0]
    voices = [["a b", "c", "d"], ["a x", "c c", "d"]]
    assert metric.compute()[""] == pytest.approx(jiwer.wer(*voices))
    for score, target, prediction in zip(scores, references, hypotheses, strict=True):
        row = {"target": target.strip(), "prediction": prediction}  # as read from a table
        errors, words = metric.fraction(score, row)
        assert score == pytest.approx(errors / max(words, 1))


def test_a_missing_voice_counts_as_silent():
    assert VoicesWER().update(text=["a b | c d"], prediction=["a b"]) == [0.5]


# The texts of mixtures --------------------------------------------------------------------


def write_speech(folder, texts):
    """Three speakers, whose utterances are told by their period in samples."""
    rows = []
    for period, (speaker, own) in enumerate(texts.items(), 2):
        for k, text in enumerate(own):
            name, size = f"{speaker}{k}.wav", 2000 + 500 * k
            soundfile.write(folder / name, (torch.arange(size) % period - 0.5) / 10, 8000)
            row = {"audio_filepath": name, "duration": size / 8000, "speaker": speaker}
            rows.append(json.dumps(row | ({} if text is None else {"text": text})))
    (folder / "speech.jsonl").write_text("\n".join(rows))
    return str(folder / "speech.jsonl")


def test_texts_follow_their_sources(tmp_path):
    texts = {"a": ["One", "two"], "b": ["three", "four"], "c": ["five", "six"]}
    manifest, encoder = write_speech(tmp_path, texts), CharacterEncoder()
    options = {"timeline": Timeline(max_turns=2), "text_encoder": encoder, "sample_rate": 8000}
    silent = {"num_speakers": 3, "min_speakers": 1, "single_speaker_prob": 0.3}
    dataset = DynamicMixtures(manifest, texts=True, **silent, **options)
    plain = DynamicMixtures(manifest, **silent, **options)
    items = [dataset[epoch, i] for epoch in range(3) for i in range(6)]
    for item in items:
        voices = [voice.strip() for voice in item["text"].split("|")]
        assert [encoder.decode(row[row > 0].tolist()) for row in item["source_tokens"]] == voices
        for source, voice in zip(item["sources"], voices, strict=True):
            spoken = source[source.abs() > 1e-4]
            assert bool(voice) == bool(len(spoken))
            if voice:
                period = len({round(value, 3) for value in spoken.tolist()})
                speaker = list(texts)[period - 2]
                assert set(voice.split()) <= {text.lower() for text in texts[speaker]}
    assert len({item["num_speakers"] for item in items}) == 3
    assert items[0].keys() - plain[0, 0].keys() == {"text", "source_tokens"}
    assert torch.equal(items[0]["audio"], plain[0, 0]["audio"])
    assert collate(items)["source_tokens"].shape[:2] == (18, 3)


def test_texts_need_whole_utterances_and_texts(tmp_path):
    manifest = write_speech(tmp_path, {"a": ["one"], "b": ["two", None]})
    options = {"texts": True, "sample_rate": 8000, "text_encoder": CharacterEncoder()}
    for other in ({}, {"segment": 1.0, "timeline": Timeline()}):
        with pytest.raises(ValueError, match="texts: true needs whole utterances: segment=null"):
            DynamicMixtures(manifest, **options, **other)
    with pytest.raises(ValueError, match=r"speech.jsonl, line 3: no text, which texts: true needs"):
        DynamicMixtures(manifest, timeline=Timeline(), **options)
    with pytest.raises(ValueError, match="texts: true needs a text encoder"):
        DynamicMixtures(manifest, timeline=Timeline(), **options | {"text_encoder": None})


# Training ---------------------------------------------------------------------------------


def test_frozen_recogniser_stays_as_it_was(trained):
    assert not changed(trained / "frozen", trained / "r", "recogniser")
    assert changed(trained / "frozen", trained / "s", "separator")


def test_both_are_trained(trained):
    names = changed(trained / "both", trained / "r", "recogniser")
    assert "running_mean" in " ".join(names) and "weight" in " ".join(names)
    assert changed(trained / "both", trained / "s", "separator")


def test_recogniser_teaches_the_separator(runs, corpus):
    config = joint(runs, corpus, "unused")
    system = built(config)
    dataset = open_dataset(config, "train", system, train=True)
    items = [dataset[0, i] for i in range(2)]
    system.train()
    system.model.recogniser.eval()
    parts = system.training_step(collate(items), loss="ctc")
    parts["ctc"].backward()
    for parameter in system.model.separator.parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0
    assert not system.model.features.state_dict()

    # The weighted sum, and the permutation of each item, written out.
    values, batch = [], collate(items)
    outputs = system.model.separator(**batch)
    for i in range(2):
        size = batch["audio_length"][i : i + 1]
        pairs = [
            [si_sdr(voice[None], source[None], size) for source in batch["sources"][i]]
            for voice in outputs["estimates"][i]
        ]
        values.append(max(pairs[0][0] + pairs[1][1], pairs[0][1] + pairs[1][0]) / 2)
    torch.testing.assert_close(parts["si_sdr"], -torch.stack(values).mean(), rtol=1e-4, atol=1e-4)
    weights = config.loss.weights
    total = weights.si_sdr * parts["si_sdr"] + weights.ctc * parts["ctc"]
    torch.testing.assert_close(parts["loss"], total)


def test_recogniser_of_a_nemo_file(runs, corpus):
    file = FIXTURES / "asr_fastconformer_ctc_bpe.nemo"
    system = built(joint(runs, corpus, "unused", recogniser=file))
    model = system.model
    assert (model.sample_rate, model.recogniser_rate) == (8000, 16000)
    audio, length = torch.randn(1, 8000), torch.tensor([8000])
    outputs = model.eval().recognise(torch.randn(1, 2, 8000), audio, length)
    assert outputs["log_probs"].shape[3] == len(system.text_encoder)


# Use --------------------------------------------------------------------------------------


def test_run_separates_and_transcribes(trained, corpus):
    run, file = trained / "both", next((corpus / "audio").rglob("*.flac"))
    assert load_run(run)(file).shape[0] == 2  # a separator
    rows = (run / "report" / "test.tsv").read_text().splitlines()
    assert {"target", "prediction", "WER", "SI-SDRi"} <= set(rows[0].split("\t"))


def test_run_is_separator_and_recogniser_of_conversations(trained, corpus):
    run = trained / "both"
    config = composed(
        "inference_conversation",
        f"separator={run}",
        f"recogniser={run}",
        f"datasets.test.folder={corpus}",
        "datasets.test.limit=1",
        "datasets.test.utterances=2",
        "device=cpu",
    )
    assert "test/residual" in infer(config)
    both = ConversationRuns(config).restore(config, "best", "cpu")
    recogniser, weights = both.recogniser, Run(run).read_weights("best")
    assert recogniser.sample_rate == 16000 and both.separator.sample_rate == 8000
    for name, value in recogniser.model.state_dict().items():
        assert torch.equal(value, weights[f"recogniser.{name}"])
    audio = torch.randn(1, 8000)
    heard = both.separator.model.recognise(audio[None], audio, torch.tensor([8000]))
    assert heard["log_probs"].shape[3] == len(recogniser.text_encoder)


def test_sources_in_the_wrong_place(trained, corpus):
    for given, message in (
        ({"separator": "r"}, "init.separator.source: .*r is a run of recognition, not of separat"),
        ({"recogniser": "s"}, "config, init.recogniser.source: .*s is a run of separation, not of"),
        ({"separator": "both"}, "both has both a separator and a recogniser; .*init.model.source="),
        ({"recogniser": "both"}, "both has both a separator and a recogniser; .*init.model.source"),
    ):
        with pytest.raises(ValueError, match=message):
            adopt_configs(joint(trained, corpus, "unused", **given))
    with pytest.raises(ValueError, match="config, text_encoder: .*; null: those of the source"):
        adopt_configs(joint(trained, corpus, "unused", "+text_encoder=english"))


def test_goes_on_from_a_joint_run(trained, corpus):
    options = [
        "init=model",
        f"init.model.source={trained / 'both'}",
        "init.model.adopt_config=true",
    ]
    config = experiment("separation_recognition", corpus, trained / "unused", *options)
    weights = built(config).model.state_dict()
    for name, value in Run(trained / "both").read_weights("best").items():
        assert torch.equal(weights[name], value)


def test_resampling_of_voices_is_said_once(runs, corpus, caplog):
    with caplog.at_level("INFO"):
        adopt_configs(joint(runs, corpus, "said"))
    said = [message for message in caplog.messages if "voices are resampled" in message]
    assert said == [
        "The separator works at 8000 Hz and the recogniser at 16000 Hz: voices are resampled, and "
        "have nothing above 4000 Hz."
    ]
