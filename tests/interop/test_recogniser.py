"""NVIDIA's recognisers: read, run, written back, refused."""

import argparse
import contextlib
import copy
import functools
import io
import tarfile
from types import SimpleNamespace

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from scripts import convert
from src.config import build
from src.interop.archive import read_archive, read_artifact, write_archive
from src.interop.initialization import adopt_configs, adopted_text_encoder
from src.interop.nemo import our_name
from src.interop.nemo_config import read_encoder
from src.interop.nemo_tokens import normalizer_of
from src.interop.recogniser import read_recogniser, read_spec_augment
from src.interop.recogniser_export import save_recogniser
from src.models.conformer import ConformerEncoder
from src.models.encoder_ctc import EncoderCTC
from src.models.mossformer2 import MossFormer2
from src.run import load_run
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.greedy import GreedyDecoder
from src.text_encoder.subwords import SubwordEncoder
from src.transforms.chain import Chain
from src.transforms.features.log_mel import LogMel
from src.transforms.spectrogram.warp import TimeWarp
from src.transforms.wave.cleaning import Loudness
from src.utils.audio import write_audio
from src.utils.checkpoint import read_tensors
from src.utils.files import read_jsonl
from tests.demo import composed, experiment
from tests.golden import FIXTURES, golden, part
from train import train

NAMES = (
    "fastconformer_ctc_bpe",
    "fastconformer_hybrid_bpe",
    "fastconformer_streaming_bpe",
    "quartznet_char",
    "jasper_dense_char",
    "citrinet_char",
)
BPE, CHAR = FIXTURES / "asr_fastconformer_ctc_bpe.nemo", FIXTURES / "asr_quartznet_char.nemo"
CONFORMER = ("model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2")
HYBRID = FIXTURES / "asr_fastconformer_hybrid_bpe.nemo"


def close(first, second, tolerance):
    torch.testing.assert_close(first, second, rtol=0, atol=tolerance)


def built(recogniser):
    """Front end and model of a recogniser."""
    options = {k: v for k, v in recogniser.features.items() if k != "_target_"}
    model = OmegaConf.create({"model": recogniser.model})
    model = build(model, "model", vocab_size=len(recogniser.text_encoder)).eval()
    model.load_state_dict(recogniser.weights)
    return LogMel(**options), model


@pytest.mark.parametrize("name", NAMES)
def test_equals_reference(name):
    recogniser = read_recogniser(FIXTURES / f"asr_{name}.nemo")
    tensors, facts = golden(f"asr_{name}")
    features, model = built(recogniser)
    if "streaming" in name:  # the reference was left in the last of its contexts
        model.encoder.att_context_sizes = model.encoder.att_context_sizes[-1:]
    batch = features(tensors["in.audio"], tensors["in.length"])
    assert batch["spectrogram_length"].equal(tensors["mid.features_length"])
    frames = tensors["mid.features"].shape[2]
    close(batch["spectrogram"][..., :frames], tensors["mid.features"], 1e-4)
    with torch.no_grad():
        out, encoded = model(**batch), model.encoder(**batch)["encoded"]
    assert out["log_probs_length"].equal(tensors["out.length"])
    ours_first = tensors["out.log_probs"].roll(1, 2)  # the blank
    for row, length in enumerate(tensors["out.length"].tolist()):
        close(encoded[row, :, :length], tensors["mid.encoded"][row, :, :length], 2e-5)
        close(out["log_probs"][row, :length], ours_first[row, :length], 2e-5)
    ids = GreedyDecoder()(out["log_probs"], out["log_probs_length"])
    assert [recogniser.text_encoder.decode(one) for one in ids] == facts["greedy_text"]


@pytest.mark.parametrize("name", NAMES)
def test_alone_equals_padded(name):
    features, model = built(read_recogniser(FIXTURES / f"asr_{name}.nemo"))
    tensors, _ = golden(f"asr_{name}")
    audio, lengths = tensors["in.audio"], tensors["in.length"]
    with torch.no_grad():
        together = model(**features(audio, lengths))
        for row, length in enumerate(lengths.tolist()):
            alone = model(**features(audio[row : row + 1, :length], lengths[row : row + 1]))
            count = int(alone["log_probs_length"])
            assert count == together["log_probs_length"][row]
            close(alone["log_probs"][0, :count], together["log_probs"][row, :count], 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_written_equals_read(name, tmp_path):
    first = read_recogniser(FIXTURES / f"asr_{name}.nemo")
    features, model = built(first)
    save_recogniser(model, features, first.text_encoder, tmp_path / "a.nemo")
    second = read_recogniser(tmp_path / "a.nemo")
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
    assert first.text_encoder.vocabulary == second.text_encoder.vocabulary
    assert first.features == second.features
    assert read_spec_augment(second.spec_augment) is None
    _, original = read_archive(FIXTURES / f"asr_{name}.nemo")
    _, written = read_archive(tmp_path / "a.nemo")
    if "hybrid" in name:
        original = {
            k.replace("ctc_decoder", "decoder"): v
            for k, v in original.items()
            if not k.startswith(("decoder", "joint"))
        }
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in original.items()}


def test_adapters_equal_reference():
    tensors, facts = golden("nest_adapters")
    options = read_encoder({"encoder": {"_target_": "x.ConformerEncoder", **facts["config"]}})
    encoder = ConformerEncoder(**options, adapters={"task_a": {"dim": 8}}).eval()
    state = {f"encoder.{name}": value for name, value in part(tensors, "state.").items()}
    names = {name: our_name(name).removeprefix("encoder.") for name in state}
    own = encoder.state_dict()
    encoder.load_state_dict({names[k]: v.reshape(own[names[k]].shape) for k, v in state.items()})
    features, length = tensors["in.features"], tensors["in.length"]
    for key, enabled in (("out.with", ["task_a"]), ("out.without", [])):
        encoder.adapters.enabled = enabled
        with torch.no_grad():
            out = encoder(features, length)
        assert out["encoded_length"].equal(tensors["out.length"])
        for row, count in enumerate(tensors["out.length"].tolist()):
            close(out["encoded"][row, :, :count], tensors[key][row, :, :count], 2e-5)


@pytest.mark.parametrize("position", ["pre", "post"])
def test_adapters_are_written_and_read(tmp_path, position):
    adapters = {"a": {"dim": 3, "norm_position": position}, "b": {"dim": 2, "enabled": False}}
    encoder = ConformerEncoder(
        num_layers=2, d_model=8, num_heads=2, subsampling_conv_channels=4, adapters=adapters
    )
    model = EncoderCTC(encoder, 29)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    tokens = CharacterEncoder(alphabet=" abcdefghijklmnopqrstuvwxyz'")
    features = LogMel(preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=16)
    save_recogniser(model, features, tokens, tmp_path / "a.nemo")
    again = read_recogniser(tmp_path / "a.nemo")
    read = again.model["encoder"]["adapters"]
    assert read["a"] == {"dim": 3, "norm_position": position, "dropout": 0.0, "enabled": True}
    assert not read["b"]["enabled"]
    assert all(torch.equal(again.weights[k], v) for k, v in model.state_dict().items())


# Loading, evaluating, fine-tuning -------------------------------------------------------------


def test_load_run_takes_a_file(tmp_path):
    tensors, facts = golden("asr_quartznet_char")
    transcribe = load_run(CHAR)
    length = int(tensors["in.length"][0])
    audio = tensors["in.audio"][0, :length]
    assert transcribe(audio, 16000) == facts["greedy_text"][0]
    write_audio(tmp_path / "a.wav", audio, 16000)
    assert isinstance(transcribe(tmp_path / "a.wav"), str)
    assert transcribe.sample_rate == 16000


def finetune(corpus, folder, source, *options, name="asr_finetune"):
    """Fine-tune a recogniser on the demo speech for a few steps."""
    own = [f"datasets.{name}.manifest={corpus / name}.jsonl" for name in ("train", "val", "test")]
    own += [f"+datasets.{name}.limit=6" for name in ("train", "val", "test")]
    own += [f"init.model.source={source}", "trainer.epochs=1", "trainer.log_every_steps=1"]
    own += ["dataloader.max_seconds=12", "scheduler=constant", "dataloader.num_workers=0"]
    own += [f"run_dir={folder}", "writer=nothing", "device=cpu"]
    return train(composed(name, *own, *options))


def write_nemo(run, out, checkpoint):
    """Convert a checkpoint of a run, as scripts/convert.py does."""
    convert.convert(argparse.Namespace(run=run, out=out, checkpoint=checkpoint))


@pytest.mark.parametrize(
    ("transforms", "named"),
    [
        ({"loudness": Loudness(), "features": LogMel()}, "cleaning.loudness"),
        ({"features": LogMel(), "warp": TimeWarp()}, "transforms.batch.inference.warp"),
    ],
)
@pytest.mark.parametrize("name", ["a.nemo", "a.pt"])
def test_transforms_that_other_projects_lack_are_refused(
    name, transforms, named, monkeypatch, tmp_path
):
    model = MossFormer2(d_model=8, num_layers=1, kernel_size=4)
    if name == "a.nemo":
        encoder = ConformerEncoder(num_layers=1, d_model=8, num_heads=2)
        model = EncoderCTC(encoder, vocab_size=5)
    tokens = CharacterEncoder(alphabet=" abc")
    system = SimpleNamespace(
        model=model, inference_transforms=Chain(transforms), text_encoder=tokens
    )
    monkeypatch.setattr(convert, "load_run", lambda *_, **__: system)
    with pytest.raises(ValueError, match=rf"^runs/a: {named} can't be converted"):
        write_nemo("runs/a", tmp_path / name, "best")
    assert not (tmp_path / name).exists()


def losses(run):
    return [row["train/loss"] for row in read_jsonl(run / "metrics.jsonl") if "train/loss" in row]


def test_finetune_with_its_tokens_and_write_it(corpus, tmp_path):
    finetune(corpus, tmp_path / "r", BPE, "optimizer.lr=1e-9", "+model.encoder.dropout=0.0")
    first, second = read_recogniser(BPE), load_run(tmp_path / "r")
    assert second.text_encoder.vocabulary == first.text_encoder.vocabulary
    assert second.config.model.encoder.dropout == 0.0
    assert second.config.transforms.batch.train.spec_augment.n_time_masks == 10
    close(second.model.head.weight, first.weights["head.weight"], 1e-6)
    write_nemo(tmp_path / "r", tmp_path / "a.nemo", "last")
    written = read_recogniser(tmp_path / "a.nemo")
    last = read_tensors(tmp_path / "r" / "last" / "model.safetensors")
    assert all(torch.equal(last[key], value) for key, value in written.weights.items())


def test_finetune_with_new_tokens(corpus, tmp_path):
    (tmp_path / "s.model").write_bytes(read_artifact(BPE, tokenizer_of(BPE)))
    own = ["text_encoder=subwords", f"text_encoder.model={tmp_path / 's.model'}"]
    finetune(corpus, tmp_path / "r", CHAR, "optimizer.lr=1e-9", *own)
    first, second = read_recogniser(CHAR), load_run(tmp_path / "r")
    assert len(second.text_encoder) == 64 and second.model.head.weight.shape[0] == 64
    layer = "encoder.blocks.1.sub_blocks.0.conv.weight"
    close(second.model.state_dict()[layer], first.weights[layer], 1e-6)


@pytest.mark.parametrize("tokens", ["english", "subwords"])
def test_curve_from_a_run_equals_that_from_its_file(corpus, tmp_path, tokens):
    own = ["trainer.epochs=1", "trainer.steps_per_epoch=2", "dataloader.max_seconds=12"]
    if tokens == "subwords":
        proto = SubwordEncoder(read_artifact(BPE, tokenizer_of(BPE))).proto
        (tmp_path / "s.model").write_bytes(proto)
        own += ["text_encoder=subwords", f"text_encoder.model={tmp_path / 's.model'}"]
    train(experiment("asr_conformer", corpus, tmp_path / "r", *own, *CONFORMER))
    write_nemo(tmp_path / "r", tmp_path / "a.nemo", "best")
    values = [
        finetune(corpus, tmp_path / name, source, "optimizer.lr=1e-3")
        for name, source in (("from_run", tmp_path / "r"), ("from_file", tmp_path / "a.nemo"))
    ]
    assert values[0] == values[1]
    assert losses(tmp_path / "from_run") == losses(tmp_path / "from_file")


def tokenizer_of(path):
    config, _ = read_archive(path)
    return config["tokenizer"]["model_path"].removeprefix("nemo:")


def test_adopted_tokens_give_way_to_given_ones():
    own = [f"init.model.source={CHAR}"]
    config = composed("asr_finetune", *own)
    assert adopted_text_encoder(config).vocabulary[1:3] == [" ", "a"]
    config = composed("asr_finetune", *own, "text_encoder=russian")
    assert adopted_text_encoder(config) is None


@pytest.mark.parametrize(
    ("characters", "language"),
    [
        ("' abcdefghijklmnopqrstuvwxyz", "en"),
        ("\u2581abcdefghijklmnopqrstuvwxyz", "en"),
        (" абвгдежзийклмнопрстуфхцчшщъыьэюя", "ru"),
        (" abcdefghijklmnopqrstuvwxyzA.", None),
        (" abc", None),
    ],
)
def test_normalisation_follows_from_the_vocabulary(characters, language):
    normalizer = normalizer_of(characters)
    assert (normalizer and normalizer.language) == language
    assert language != "ru" or normalizer.fold_yo


# Files of other versions ----------------------------------------------------------------------


@functools.cache
def contents(source):
    """Config, weights and tokenizer of a file, which must not be changed."""
    config, weights = read_archive(source)
    artifacts = {}
    if isinstance(config.get("tokenizer"), dict):
        name = tokenizer_of(source)
        artifacts[name] = read_artifact(source, name)
    return config, weights, artifacts


def rewritten(source, target, change):
    """A file with another config; its tokenizer is kept."""
    config, weights, artifacts = contents(source)
    config, weights = copy.deepcopy(config), dict(weights)
    change(config, weights)
    write_archive(target, config, weights, artifacts)
    return target


def of_nemo_1_0(config, weights):
    """As a beta version of 1.0 wrote it."""
    for name in ("preprocessor", "encoder", "decoder"):
        section = config[name]
        config[name] = {"cls": section.pop("_target_"), "params": section}
    config["preprocessor"]["params"] |= {"stft_conv": False, "stft_exact_pad": False}
    config["train_ds"] = {"manifest_filepath": "???", "is_tarred": False, "labels": ["a"]}
    config["optim"] = {"name": "novograd", "lr": 0.01, "betas": [0.8, 0.5]}
    config["trainer"] = {"gpus": 0}


def of_nemo_1_22(config, weights):
    """With the sections that 1.22 added."""
    config["encoder"] |= {"use_bias": True, "global_tokens": 0, "reduction": None}
    config["encoder"] |= {"reduction_position": None, "reduction_factor": 1}
    config["variational_noise"] = {"start_step": 0, "std": 0.0}
    config["interctc"] = {"loss_weights": [], "apply_at_layers": []}
    config["preprocessor"] |= {"normalize": "NA", "log_zero_guard_type": "add"}
    config["graph"], config["use_cer"], config["exp_manager"] = {}, False, {"name": None}


@pytest.mark.parametrize(("source", "change"), [(CHAR, of_nemo_1_0), (BPE, of_nemo_1_22)])
def test_configs_of_earlier_versions(source, change, tmp_path):
    path = rewritten(source, tmp_path / "a.nemo", change)
    recogniser, same = read_recogniser(path), read_recogniser(source)
    wanted = same.model["encoder"] | {
        key: value for key, value in recogniser.model["encoder"].items() if key in ("use_bias",)
    }
    assert recogniser.model["encoder"] == wanted
    if change is of_nemo_1_22:
        assert recogniser.features["normalization"] == "none"


def test_full_convolutions_of_a_conformer(tmp_path):
    encoder = ConformerEncoder(
        num_layers=1,
        d_model=8,
        num_heads=2,
        subsampling_conv_channels=8,
        subsampling="striding",
        subsampling_factor=4,
    )
    model = EncoderCTC(encoder, 29)
    tokens = CharacterEncoder(alphabet=" abcdefghijklmnopqrstuvwxyz'")
    features = LogMel(preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=16)
    save_recogniser(model, features, tokens, tmp_path / "a.nemo")
    _, weights = read_archive(tmp_path / "a.nemo")
    assert weights["encoder.pre_encode.conv.2.weight"].shape == (8, 8, 3, 3)
    again = read_recogniser(tmp_path / "a.nemo")
    assert again.model["encoder"]["subsampling"] == "striding"
    assert all(torch.equal(again.weights[k], v) for k, v in model.state_dict().items())


# Refused --------------------------------------------------------------------------------------


def setting(place, value):
    """A change of one value of a config, whose place is dotted."""

    def change(config, weights):
        *parents, name = [int(key) if key.isdecimal() else key for key in place.split(".")]
        node = config
        for parent in parents:
            node = node[parent]
        if value is None and isinstance(node, dict):
            node.pop(name, None)
        else:
            node[name] = value

    return change


@pytest.mark.parametrize(
    ("source", "place", "value", "message"),
    [
        (BPE, "target", "nemo.x.EncDecRNNTBPEModel", "no recogniser with a CTC head"),
        (BPE, "target", "nemo.x.EncDecMultiTaskModel", "no recogniser with a CTC head"),
        (BPE, "target", "nemo.x.EncDecSpeakerLabelModel", "no recogniser with a CTC head"),
        (BPE, "tokenizer.type", "wpe", "tokenizer.type: 'wpe' is not supported"),
        (BPE, "tokenizer.type", "agg", "tokenizer.type: 'agg' is not supported"),
        (BPE, "tokenizer.model_path", "/etc/passwd", "'/etc/passwd' is not in the archive"),
        (BPE, "tokenizer.model_path", "nemo:gone.model", "gone.model is missing in the archive"),
        (BPE, "encoder.new_knob", 1, "encoder.new_knob: unknown parameter"),
        (BPE, "encoder.self_attention_model", "abs_pos", "self_attention_model: abs_pos is not"),
        (BPE, "encoder.subsampling", "vggnet", "subsampling: 'vggnet'; dw_striding or striding"),
        (BPE, "encoder.d_model", "many", "encoder.d_model: 'many'; a whole number"),
        (BPE, "decoder.new_knob", 1, "decoder.new_knob: unknown parameter"),
        (BPE, "decoder.num_classes", 63, "num_classes: 63, but 64 tokens"),
        (BPE, "preprocessor.new_knob", 1, "preprocessor.new_knob: unknown parameter"),
        (BPE, "preprocessor.window", "hamming", "preprocessor.window: hamming is not supported"),
        (BPE, "preprocessor.features", 64, "fb differs from that of its config"),
        (BPE, "decoder", None, "decoder is missing"),
        (HYBRID, "aux_ctc", None, "aux_ctc is missing"),
        (CHAR, "encoder.jasper", [{"filters": 4}], "jasper"),
        (CHAR, "decoder.vocabulary", ["a"] * 28, "'a' twice"),
        (CHAR, "decoder.vocabulary", ["ab", *"cdefghijklmnopqrstuvwxyz012"], "several characters"),
    ],
)
def test_what_is_not_supported_is_named(source, place, value, message, tmp_path):
    path = rewritten(source, tmp_path / "a.nemo", setting(place, value))
    with pytest.raises(ValueError, match=message) as error:
        read_recogniser(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("source", [BPE, CHAR])
@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "torch.hub.load", "repo_or_dir": "REPO", "source": "local", "model": "m"},
        [{"_target_": "builtins.exec"}],
        "${oc.env:SECRET}",
        float("inf"),
        [[[]]],
        {},
        None,
        -1,
        10**9,
    ],
)
def test_values_of_a_file_are_not_executed(source, value, tmp_path, monkeypatch):
    (tmp_path / "repo").mkdir()
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\ndef m(): return 0.0\n"
    (tmp_path / "repo" / "hubconf.py").write_text(code)
    monkeypatch.setenv("SECRET", "hunter2")
    if isinstance(value, dict) and value:
        value = value | {"repo_or_dir": str(tmp_path / "repo")}
    places = ["preprocessor.sample_rate", "preprocessor.n_fft", "spec_augment", "unused_pieces"]
    places += ["adapters", "encoder.feat_in", "decoder.vocabulary", "tokenizer", "labels"]
    places += (
        ["encoder.att_context_size", "encoder.n_layers"]
        if source == BPE
        else [
            "encoder.jasper",
            "encoder.jasper.1",
            "encoder.jasper.1.dropout",
            "encoder.jasper.1.repeat",
            "encoder.activation",
        ]
    )
    path = tmp_path / "a.nemo"
    composed_config = composed("asr_finetune", f"init.model.source={path}")
    for place in places:
        rewritten(source, path, setting(place, value))
        try:
            load_run(path)
        except ValueError as error:
            assert str(path) in str(error) and "hunter2" not in str(error)
        with contextlib.suppress(ValueError, KeyError):
            config = copy.deepcopy(composed_config)
            adopt_configs(config)
            assert "hunter2" not in str(config)
    assert not (tmp_path / "ran").exists()


def test_encoder_of_a_pretrained_file_is_not_executed(tmp_path):
    value = {"_target_": "builtins.exec"}
    change = setting("encoder.att_context_size", [value])
    path = rewritten(FIXTURES / "nest_model.nemo", tmp_path / "a.nemo", change)
    with pytest.raises(ValueError, match="'_target_' is no key of plain values"):
        adopt_configs(composed("asr_nest", f"init.encoder.source={path}"))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.to_sparse(),
        lambda w: w.to(torch.int8),
        lambda w: w.to(torch.complex64),
        lambda w: torch.full_like(w, float("nan")),
        lambda w: w.to("meta"),
    ],
)
def test_weights_are_finite_real_numbers(tmp_path, change):
    def head(config, weights):
        weights["decoder.decoder_layers.0.bias"] = change(weights["decoder.decoder_layers.0.bias"])

    with pytest.raises(ValueError, match="head.bias is|is not a dense tensor"):
        read_recogniser(rewritten(CHAR, tmp_path / "a.nemo", head))


def test_damaged_tokenizer_is_named(tmp_path):
    config, weights = read_archive(BPE)
    name = tokenizer_of(BPE)
    for data, message in ((b"", "not a sentencepiece model"), (b"x" * 99, "not a sentencepiece")):
        write_archive(tmp_path / "a.nemo", config, weights, {name: data})
        with pytest.raises(ValueError, match=message):
            read_recogniser(tmp_path / "a.nemo")


def test_tokenizer_of_another_size_is_named(tmp_path):
    def fewer(config, weights):
        config["decoder"]["num_classes"] = 60
        config["decoder"]["vocabulary"] = config["decoder"]["vocabulary"][:60]

    path = rewritten(BPE, tmp_path / "a.nemo", fewer)
    with pytest.raises(ValueError, match="the tokenizer has 64 pieces, the head 60 classes"):
        read_recogniser(path)


def test_weight_of_another_model_is_named(tmp_path):
    def change(config, weights):
        weights["encoder.extra"] = weights.pop("encoder.layers.0.norm_out.weight")

    path = rewritten(BPE, tmp_path / "a.nemo", change)
    with pytest.raises(ValueError, match="2 weights don't match; the first: encoder.extra"):
        read_recogniser(path)


def test_member_outside_of_the_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.nemo", "w") as out, tarfile.open(BPE) as source:
        member = tarfile.TarInfo("../evil")
        member.size = 1
        out.addfile(member, io.BytesIO(b"x"))
        for other in source:
            out.addfile(other, source.extractfile(other))
    with pytest.raises(ValueError, match="lies outside of the archive"):
        load_run(tmp_path / "a.nemo")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nemo"]


def test_pretrained_model_is_no_recogniser():
    with pytest.raises(ValueError, match="no recogniser with a CTC head"):
        load_run(FIXTURES / "nest_model.nemo")


def test_config_is_plain_yaml(tmp_path):
    features, model = built(read_recogniser(CHAR))
    save_recogniser(model, features, read_recogniser(CHAR).text_encoder, tmp_path / "a.nemo")
    with tarfile.open(tmp_path / "a.nemo") as archive:
        text = archive.extractfile("./model_config.yaml").read().decode()
    assert "&id" not in text and yaml.safe_load(text)["labels"][0] == " "


# Adapters ----------------------------------------------------------------------------------


def test_only_adapters_and_head_are_trained(corpus, tmp_path):
    own = ["trainer.epochs=1", "trainer.steps_per_epoch=2", "dataloader.max_seconds=12"]
    own += ["trainer.test_on=[]"]
    train(experiment("asr_conformer", corpus, tmp_path / "r", *own, *CONFORMER))
    small = "model.encoder.adapters.default.dim=4"
    finetune(corpus, tmp_path / "a", tmp_path / "r", small, name="asr_adapter")
    before = read_tensors(tmp_path / "r" / "best" / "model.safetensors")
    after = read_tensors(tmp_path / "a" / "last" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    new = after.keys() - before.keys()
    assert {name.split(".")[1] for name in new} == {"adapters"} and len(new) == 8
    assert all(after[name].any() for name in new)

    more = [small, "+model.encoder.adapters.second={dim: 2, enabled: false}"]
    finetune(corpus, tmp_path / "b", tmp_path / "a", *more, name="asr_adapter")
    last = read_tensors(tmp_path / "b" / "last" / "model.safetensors")
    second = [name for name in last if ".second." in name]
    assert len(second) == 8 and not any(last[n].any() for n in second if ".up." in n)
    transcribe = load_run(tmp_path / "b")
    assert transcribe.model.encoder.adapters.enabled == ["default"]
