"""Every writer, without network and account: what was written is read back."""

import json
import logging
import os
import signal
import struct
import sys
import threading
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from src.logger.base import Writer
from src.logger.cometml import CometMLWriter
from src.logger.nothing import NothingWriter
from src.logger.safe import MAX_FAILURES, SafeWriter
from src.logger.tensorboard import TensorBoardWriter
from src.logger.wandb import WandBWriter

CONFIG = {"seed": 42, "model": {"width": 16}}
TABLE = (["id", "WER"], [["a|b", 0.5], ["c", 0.0]])


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No account, and a proxy that refuses every connection."""
    for name in ("WANDB_API_KEY", "COMET_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def write_all(writer: Writer, step: int) -> None:
    writer.scalars({"val/WER": 0.25, "train/lr": 0.001}, step)
    writer.audio("sound", 0.1 * torch.ones(800), 16000, step)
    writer.image("picture", np.arange(192, dtype=np.uint8).reshape(8, 8, 3), step)
    writer.table("val/utterances", *TABLE, step)


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step in (1, 2):  # the second as after a resume
        writer = TensorBoardWriter(tmp_path, CONFIG, {})
        write_all(writer, step)
        writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/WER")] == [(1, 0.25), (2, 0.25)]
    assert events.Audio("sound")[0].sample_rate == 16000
    assert events.Images("picture")
    text = events.Tensors("val/utterances/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| a\\|b | 0.5 |" in text


BLOCK, HEADER = 32768, 7  # bytes; .wandb files are logs in the format of LevelDB


def records(path: Path):
    """The records of a .wandb file."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block too small for a header
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        whole += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # full, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def test_wandb_offline(tmp_path):
    state = None
    for step in (1, 2):
        writer = WandBWriter(tmp_path, CONFIG, state, mode="offline")
        write_all(writer, step)
        writer.checkpoint(checkpoint(tmp_path), "best")
        assert state is None or writer.state() == state  # the same run goes on
        state = writer.state()
        writer.close()
    values: dict[str, list] = {}
    config = ""
    for path in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(path):
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                values.setdefault(key, []).append(json.loads(item.value_json))
            config += " ".join(str(u.value_json) for u in record.run.config.update)
    assert values["val/WER"] == [0.25, 0.25]
    assert values["val/utterances/_type"][0] == "table-file"
    assert values["sound/_type"][0] == "audio-file"
    assert "42" in config
    tables = list(tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json"))
    assert json.loads(tables[0].read_text())["data"] == TABLE[1]
    sound = next(iter(tmp_path.glob("wandb/offline-run-*/files/media/audio/**/*.wav")))
    with wave.open(str(sound)) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 800)


def checkpoint(folder: Path) -> Path:
    (folder / "best").mkdir(exist_ok=True)
    (folder / "best" / "model.safetensors").write_bytes(b"weights")
    return folder / "best"


def test_comet_offline(tmp_path):
    state = None
    for step in (1, 2):
        writer = CometMLWriter(tmp_path, CONFIG, state, mode="offline")
        write_all(writer, step)
        writer.checkpoint(checkpoint(tmp_path), "best")
        assert state is None or writer.state() == state
        state = writer.state()
        writer.close()
    archives = sorted((tmp_path / "comet").glob("*/*.zip"))
    assert len(archives) == 2
    lines: list[dict] = []
    for archive in archives:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            messages = file.read("messages.json").decode().splitlines()
            lines += [json.loads(line) for line in messages]
            assert any("wav" in json.dumps(m) for m in lines) and len(names) > 3
    metrics = [m["payload"]["metric"] for m in lines if "metric" in m.get("payload", {})]
    result = [(m["metricName"], m["metricValue"], m.get("step")) for m in metrics if m]
    assert [(v, s) for name, v, s in result if name == "val/WER"] == [(0.25, 1), (0.25, 2)]
    assert any("seed" in json.dumps(m) for m in lines)


def test_wandb_offline_is_complete_when_close_returns(tmp_path, monkeypatch):
    """Also if wandb's service process gets no time to write when the run is finished."""
    from wandb.sdk.lib.service.service_connection import ServiceConnection

    inform_finish = ServiceConnection.inform_finish

    def pause_service(self, run_id):
        process = self._proc._process
        os.kill(process.pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (process.pid, signal.SIGCONT)).start()
        inform_finish(self, run_id)

    monkeypatch.setattr(ServiceConnection, "inform_finish", pause_service)
    writer = WandBWriter(tmp_path, CONFIG, mode="offline")
    writer.scalars({"val/WER": 0.25}, 1)
    writer.close()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert "history" in [record.WhichOneof("record_type") for record in records(path)]


def test_wandb_disabled(tmp_path):
    writer = WandBWriter(tmp_path, CONFIG, mode="disabled")
    write_all(writer, 1)
    writer.close()
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (WandBWriter, {"mode": "ofline"}, "mode: 'ofline'; online, offline or disabled."),
        (WandBWriter, {"mode": False}, "mode: false; online, offline or disabled."),
        (WandBWriter, {"mode": None}, "mode: null; online, offline or disabled."),
        (WandBWriter, {"mode": "offline", "project": 5}, "project: 5; text."),
        (WandBWriter, {"mode": "offline", "entity": ""}, "entity: ''; text, or null."),
        (CometMLWriter, {"mode": "sometimes"}, "mode: 'sometimes'; online or offline."),
        (CometMLWriter, {"mode": "offline", "workspace": []}, r"workspace: \[\]; text, or null."),
    ],
)
def test_bad_option_raises(tmp_path, kind, options, message):
    with pytest.raises(ValueError, match=f"config, writer.{message}"):
        SafeWriter(lambda: kind(tmp_path, CONFIG, **options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "package", "module"),
    [
        (WandBWriter, "wandb", "wandb"),
        (CometMLWriter, "comet_ml", "comet_ml"),
        (TensorBoardWriter, "torch.utils.tensorboard", "torch.utils.tensorboard"),
    ],
)
def test_missing_package_raises(tmp_path, monkeypatch, kind, package, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ValueError, match=f"config, writer: the package {package} is not installed"):
        SafeWriter(lambda: kind(tmp_path, CONFIG))


def test_value_error_of_tracker_warns(tmp_path, monkeypatch, caplog):
    import wandb

    def init(**options):
        raise ValueError("no such account")

    monkeypatch.setattr(wandb, "init", init)
    writer = SafeWriter(lambda: WandBWriter(tmp_path, CONFIG))
    writer.scalars({"a": 1.0}, 1)
    assert "no such account" in caplog.text


def test_state_of_another_tracker_starts_a_new_run(tmp_path):
    writer = WandBWriter(tmp_path, CONFIG, {"key": "of Comet"}, mode="offline")
    assert writer.state()["id"]
    writer.close()


class Failing(Writer):
    def scalars(self, values, step):
        raise RuntimeError("the network is down")

    def state(self):
        return {"id": "7"}


def test_failing_tracker_warns(tmp_path, caplog):
    writer = SafeWriter(lambda: Failing(tmp_path, {}))
    caplog.set_level(logging.WARNING)
    for step in range(MAX_FAILURES + 3):
        writer.scalars({"a": 1.0}, step)
    assert caplog.text.count("the network is down") == 1
    assert "Failing failed in scalars" in caplog.text


def test_state_is_preserved_if_tracker_fails(tmp_path):
    writer = SafeWriter(lambda: Failing(tmp_path, {}))
    assert writer.state() == {"id": "7"}
    writer.failures = MAX_FAILURES
    assert writer.state() == {"id": "7"}


def test_tracker_that_cannot_start_warns(caplog):
    def fail():
        raise ConnectionError("no network")

    writer = SafeWriter(fail)
    write_all(writer, 1)
    writer.close()
    assert writer.state() == {}
    assert "no network" in caplog.text
    assert SafeWriter(fail, {"id": "7"}).state() == {"id": "7"}  # for the next time


class Closing(Failing):
    def __init__(self, run_dir, closed):
        super().__init__(run_dir, {})
        self.closed = closed

    def close(self):
        self.closed.append(self.failed)


def test_writer_is_closed_once_whatever_came_before(tmp_path):
    closed: list[bool] = []
    with SafeWriter(lambda: Closing(tmp_path, closed)) as writer:
        for step in range(MAX_FAILURES):
            writer.scalars({"a": 1.0}, step)
    writer.close()
    assert closed == [False]
    with pytest.raises(KeyError), SafeWriter(lambda: Closing(tmp_path, closed)):
        raise KeyError
    assert closed == [False, True]


def test_wandb_run_that_has_failed(tmp_path):
    with pytest.raises(KeyError), SafeWriter(lambda: WandBWriter(tmp_path, CONFIG, mode="offline")):
        raise KeyError
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    ends = [one.exit.exit_code for one in records(path) if one.WhichOneof("record_type") == "exit"]
    assert ends == [1]


def test_nothing(tmp_path):
    writer = NothingWriter(tmp_path, CONFIG)
    write_all(writer, 1)
    writer.close()
    assert not list(tmp_path.iterdir())
