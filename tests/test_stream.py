"""Streams equal recordings: log-probabilities, transcripts, and states that are taken up again."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from src.building import build_system
from src.run import load_run
from src.stream import Stream, StreamingRecogniser, accept_all, finish_all
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.greedy import GreedyDecoder
from src.text_encoder.decoders.ngram_training import train_ngram
from src.utils.resampling import resample, resampling_stage
from tests.demo import composed
from tests.golden import FIXTURES, golden
from tests.programs import run_code

NEMO = FIXTURES / "asr_fastconformer_streaming_bpe.nemo"
CONTEXTS = [(16, 3), (16, 1), (16, 0)]
PACKETS = [1, 160, 5920, 10**9]  # 1 sample, 10 ms, 0.37 s, everything
DEEPSPEECH = (
    "model.hidden_size=16",
    "model.bidirectional=false",
    "+model.lookahead_context=6",
    "+features.normalization=none",
)
NO_STATISTICS = {"features": {"normalization": "none"}}  # the file's are those of utterances
WORDS = ["a b", "ab ba", "b ab a"]


@pytest.fixture(scope="module")
def nemo():
    return load_run(NEMO, changes=OmegaConf.create(NO_STATISTICS))


@pytest.fixture(scope="module")
def deepspeech():
    return system(*DEEPSPEECH)


def system(*overrides, name="asr_deepspeech2"):
    torch.manual_seed(0)
    return build_system(composed(name, *overrides)).eval()


def recording(seconds, seed=0):
    """Noise whose level changes, at 16 kHz."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(round(seconds * 16000), generator=generator)
    return 0.1 * audio * torch.linspace(0, 40, len(audio)).sin()


def logged(stream):
    """The list to which a stream's log-probabilities [V, T] are added."""
    parts, decode = [], stream.decode

    def note(log_probs):
        parts.extend([] if log_probs is None else [log_probs])
        decode(log_probs)

    stream.decode = note
    return parts


def send(stream, audio, size, rate=16000):
    for start in range(0, audio.shape[-1], size):
        stream.accept(audio[..., start : start + size], rate)


def offline(system, context, audio):
    """Log-probabilities [T, V] of a whole recording."""
    if context is not None:
        system.model.encoder.att_context_sizes = [context]
    batch = system.inference_transforms(audio=audio[None], audio_length=torch.tensor([len(audio)]))
    with torch.no_grad():
        outputs = system.model(**batch)
    if context is not None:
        system.model.encoder.att_context_sizes = CONTEXTS
    return outputs["log_probs"][0]


@pytest.mark.parametrize("size", PACKETS)
@pytest.mark.parametrize("context", [*CONTEXTS, None])
def test_streamed_equals_offline(context, size, nemo, deepspeech):
    system = deepspeech if context is None else nemo
    audio = recording(0.7 if size == 1 else 3.3)
    stream = system.stream(context)
    parts = logged(stream)
    send(stream, audio, size)
    text = stream.finish()
    whole = offline(system, context, audio)
    log_probs = torch.cat(parts, 1).T
    assert log_probs.shape == whole.shape
    torch.testing.assert_close(log_probs, whole, rtol=0, atol=1e-5)
    ids = GreedyDecoder()(whole[None], torch.tensor([len(whole)]))[0]
    assert text == system.text_encoder.decode(ids)


@pytest.mark.parametrize("context", [(16, 1), None])
def test_streams_of_several_ages_in_a_batch(context, nemo, deepspeech):
    system = deepspeech if context is None else nemo
    audios = [recording(seconds, seed) for seed, seconds in enumerate((2.1, 0.9, 3.0))]
    streams = [system.stream(context) for _ in audios]
    logs = [logged(stream) for stream in streams]
    begins, sizes, places = [0, 3, 6], [4000, 1711, 2500], [0, 0, 0]
    for step in range(40):
        ready = [i for i in range(3) if step >= begins[i] and places[i] < len(audios[i])]
        accept_all(
            [streams[i] for i in ready],
            [audios[i][places[i] : places[i] + sizes[i]] for i in ready],
            16000,
        )
        for i in ready:
            places[i] += sizes[i]
        done = [i for i in ready if places[i] >= len(audios[i])]
        finish_all([streams[i] for i in done])
    for stream, parts, audio in zip(streams, logs, audios, strict=True):
        assert stream.finished
        whole = offline(system, context, audio)
        torch.testing.assert_close(torch.cat(parts, 1).T, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 44100, 22257])
def test_resampled_stream_equals_resampled_recording(rate, deepspeech):
    audio = recording(1.3)
    stage = resampling_stage(rate, 16000)
    state, parts = {}, []
    for start in range(0, len(audio), 1111):
        end = start + 1111 >= len(audio)
        parts += stage.advance([state], [audio[start : start + 1111]], [end])
    torch.testing.assert_close(
        torch.cat([part for part in parts if part is not None]),
        resample(audio, rate, 16000),
        rtol=0,
        atol=1e-6,
    )
    stream = deepspeech.stream()
    logs = logged(stream)
    send(stream, torch.stack([audio, audio]), 3000, rate)  # two channels
    stream.finish()
    whole = offline(deepspeech, None, resample(audio, rate, 16000))
    torch.testing.assert_close(torch.cat(logs, 1).T, whole, rtol=0, atol=1e-5)


def beams():
    model = train_ngram(WORDS * 3, order=3)
    return {
        "plain": BeamSearchDecoder(beam_size=8),
        "threshold": BeamSearchDecoder(beam_size=20, token_threshold=-3.0),
        "trigram": BeamSearchDecoder(beam_size=12, language_model=model, alpha=0.7, beta=0.5),
    }


def peaked(frames, seed, vocabulary="|ab"):
    """Log-probabilities [T, V] of which most frames are certain of a token."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(frames, len(vocabulary) + 1, generator=generator)).log_softmax(-1)


class Spelling:
    """The tokens of WORDS."""

    vocabulary = ["", " ", "a", "b"]
    keeps_words = True

    def decode(self, ids):
        return " ".join("".join(self.vocabulary[i] for i in ids).split())


@pytest.mark.parametrize("name", ["plain", "threshold", "trigram"])
@pytest.mark.parametrize("prune", [False, True])
def test_beam_of_a_stream_equals_that_of_the_utterance(name, prune, monkeypatch):
    if prune:
        monkeypatch.setattr("src.text_encoder.decoders.beam_stream.MOST_NODES", 30)
    decoder, text = beams()[name], Spelling()
    decoder.set_text_encoder(text)
    for seed in range(4):
        log_probs = peaked(120, seed)
        search, words = decoder.search(), []
        for start in range(0, 120, 7):
            search.advance(log_probs[start : start + 7])
            certain = search.certain()
            assert search.best()[: len(certain)] == certain
            spaces = [i for i, token in enumerate(certain) if token == 1]
            if spaces and spaces[-1]:
                words += text.decode(certain[: spaces[-1]]).split()
                search.commit(spaces[-1])
            if start % 3 == 0:  # saved and taken up again
                search = decoder.search(search.state(), words)
        whole = decoder(log_probs[None], torch.tensor([120]))[0]
        assert " ".join([*words, text.decode(search.best())]).strip() == text.decode(whole)
        if name != "threshold":
            assert words


@pytest.mark.parametrize("decoder", [GreedyDecoder(), BeamSearchDecoder(beam_size=8)])
def test_tokens_are_committed_without_spaces(decoder):
    encoder = CharacterEncoder(alphabet="abc")
    stages = StreamingRecogniser([], decoder, encoder, 16000, torch.device("cpu"), "", [])
    stream, log_probs = Stream(stages), (2 * peaked(600, 0, "abc")).log_softmax(-1)
    held = []
    for start in range(0, 600, 6):
        stream.decode(log_probs[start : start + 6].T)
        held.append(len(stream.search.certain()))
    whole = decoder(log_probs[None], torch.tensor([600]))[0]
    assert str(stream.partial) == encoder.decode(whole)
    assert len(stream.final) > 100
    assert max(held) < 100


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_state_is_taken_up_again_in_another_process(decoder, tmp_path):
    audio = recording(2.4, 5)
    beam = {"_target_": "src.text_encoder.decoders.beam_search.BeamSearchDecoder", "beam_size": 10}
    changes = NO_STATISTICS | {"task": {"decoders": {"beam": beam}}}
    system = load_run(NEMO, changes=OmegaConf.create(changes))
    whole = system.stream((16, 1), decoder)
    send(whole, audio, 2000, 22050)
    stream = system.stream((16, 1), decoder)
    send(stream, audio[:20000], 2000, 22050)
    save_file(stream.state(), tmp_path / "state.safetensors")
    torch.save(audio[20000:], tmp_path / "rest.pt")
    code = f"""
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from src.run import load_run
system = load_run({str(NEMO)!r}, changes=OmegaConf.create({changes!r}))
stream = system.stream((16, 1), {decoder!r}, load_file({str(tmp_path / "state.safetensors")!r}))
stream.accept(torch.load({str(tmp_path / "rest.pt")!r}, weights_only=True), 22050)
print(stream.finish())
"""
    assert run_code(code).strip() == whole.finish() != ""


def test_state_does_not_grow(deepspeech):
    stream = deepspeech.stream()
    sizes = []
    for second in range(60):
        stream.accept(recording(1, second), 16000)
        tensors = [t for own in stream.states for t in own.values()]
        sizes.append(sum(t.untyped_storage().nbytes() for t in tensors))
    assert max(sizes[30:]) <= max(sizes[5:30])


def test_partial_transcripts_grow(nemo):
    stream, final = nemo.stream((16, 1)), ""
    for second in range(8):
        partial = stream.accept(recording(1, second), 16000)
        assert partial.final.startswith(final)
        final = partial.final
    assert final
    assert stream.finish().startswith(final)
    assert stream.seconds == 8


def test_latency(nemo, deepspeech):
    assert nemo.stream((16, 3)).recogniser.latency == pytest.approx(4 * 0.08 + 0.0125, abs=1e-3)
    assert nemo.stream((16, 0)).recogniser.latency == pytest.approx(0.08 + 0.0125, abs=1e-3)
    assert 6 * 0.04 < deepspeech.stream().recogniser.latency < 1


def test_no_audio_at_all(nemo, deepspeech):
    assert nemo.stream().finish() == ""
    stream = deepspeech.stream()
    stream.accept([], 16000)
    assert stream.finish() == ""


def test_bad_input(nemo, deepspeech):
    stream = nemo.stream()
    stream.accept(np.zeros(100), 16000)
    for samples, rate, named in (
        ([0.0], 8000, "8000 Hz after 16000"),
        ([float("nan")], 16000, "finite"),
        (torch.zeros(1, 1, 4), 16000, r"\[1, 1, 4\]"),
        ([0.0], 0, "sample_rate"),
    ):
        with pytest.raises(ValueError, match=named):
            stream.accept(samples, rate)
    assert stream.num_samples == 100
    state = stream.state()
    stream.finish()
    for late in (lambda: stream.accept([0.0], 16000), stream.finish, stream.state):
        with pytest.raises(ValueError, match="ended"):
            late()
    for given, named in (
        ({"context": (70, 13)}, r"\[70, 13\]; the model was trained with \[16, 3\]"),
        ({"decoder": "beam"}, "beam"),
        ({"state": {}}, "state: not of a stream"),
        ({"state": state | {"2.attention": torch.zeros(3)}}, "not of a stream"),
    ):
        with pytest.raises(ValueError, match=named):
            nemo.stream(**given)
    with pytest.raises(ValueError, match="several recognisers"):
        accept_all([nemo.stream(), deepspeech.stream()], [[0.0], [0.0]], 16000)
    twice = nemo.stream()
    with pytest.raises(ValueError, match="one is there twice"):
        accept_all([twice, twice], [[0.0], [0.0]], 16000)
    assert twice.num_samples == twice.own_rate == 0
    for context in (3, (56.0, 1.0), (), "ab", [1, 2, 3]):
        with pytest.raises(ValueError, match="stream, context"):
            nemo.stream(context)
    nemo.train()
    with pytest.raises(ValueError, match="training mode"):
        nemo.stream()
    nemo.eval()


def test_streams_of_equal_choices_make_a_batch(nemo):
    streams = [nemo.stream(), nemo.stream([16, 3]), nemo.stream((16, 3), "greedy")]
    accept_all(streams, [recording(1, 3)] * 3, 16000)
    finish_all(streams)
    assert len({stream.final for stream in streams}) == 1


@pytest.mark.parametrize("size", [333, 4000])
def test_states_are_snapshots_of_any_moment(size, nemo, tmp_path):
    audio = recording(1.5, 8)
    stream, snapshots = nemo.stream((16, 1)), []
    for start in range(0, len(audio), size):
        snapshots.append((start, stream.state()))
        stream.accept(audio[start : start + size], 22050)
    whole = stream.finish()
    for start, snapshot in snapshots:
        save_file(snapshot, tmp_path / "a.safetensors")
        other = nemo.stream((16, 1), state=load_file(tmp_path / "a.safetensors"))
        if start < len(audio):
            other.accept(audio[start:], 22050)
        assert other.finish() == whole
    assert sum(value.nbytes for value in snapshots[-1][1].values()) < 200_000


def test_states_of_other_streams_are_refused(nemo):
    beam = nemo.task.decoders | {"beam": BeamSearchDecoder(beam_size=4)}
    nemo.task.decoders = beam
    kinds = [((16, 1), "greedy"), ((16, 3), "greedy"), ((16, 1), "beam")]
    for own in kinds:
        stream = nemo.stream(*own)
        stream.accept(recording(1), 16000)
        state = stream.state()
        for other in kinds:
            if other != own:
                with pytest.raises(ValueError, match="another recogniser, context or decoder"):
                    nemo.stream(*other, state)
        for key in ("search.", "2.held"):
            damaged = {name: value for name, value in state.items() if not name.startswith(key)}
            if len(damaged) < len(state) and not (key == "search." and own[1] == "beam"):
                with pytest.raises(ValueError, match="not of a stream"):
                    nemo.stream(*own, damaged)
    nemo.task.decoders = {"greedy": beam["greedy"]}


@pytest.mark.parametrize("part", ["model", "front end"])
def test_states_of_other_buffers_are_refused(part):
    own, other = system(*DEEPSPEECH), system(*DEEPSPEECH)
    state = own.stream().state()
    other.stream(state=state)
    changed = other.model if part == "model" else other.inference_transforms
    max(changed.buffers(), key=torch.numel).add_(1)
    other.streaming.clear()  # what streams have in common is made at the first of them
    with pytest.raises(ValueError, match="another recogniser, context or decoder"):
        other.stream(state=state)


def test_memory_of_the_caller_may_be_used_again(nemo):
    audio, buffer = recording(1.2, 4), torch.zeros(160)
    stream = nemo.stream((16, 1))
    for start in range(0, len(audio), 160):
        buffer[:] = audio[start : start + 160]
        stream.accept(buffer, 16000)
    whole = nemo.stream((16, 1))
    whole.accept(audio, 16000)
    assert stream.finish() == whole.finish()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("asr_deepspeech2", "normalization: 'per_feature'"),
        ("asr_conformer", "normalization: 'per_feature'"),
        ("ssl_nest", "no recogniser"),
    ],
)
def test_offline_models_are_refused(name, named):
    with pytest.raises(ValueError, match=named):
        system(name=name).stream()


def test_golden_contexts_are_those_of_the_file(nemo):
    _, facts = golden("asr_fastconformer_streaming_bpe")
    assert [
        tuple(one["context"]) for one in facts["streams"]
    ] == nemo.model.encoder.att_context_sizes
