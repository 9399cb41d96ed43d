"""Archives that are damaged, hostile or too large."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from src.interop.archive import CONFIG, MAX_CONFIG, MAX_MEMBERS, WEIGHTS, read_archive, read_torch
from tests.programs import run_code

MIB = 2**20


def saved(weights=None) -> bytes:
    """A checkpoint as torch writes it."""
    data = io.BytesIO()
    torch.save({"a": torch.ones(2)} if weights is None else weights, data)
    return data.getvalue()


GOOD = {CONFIG: b"a: 1\n", WEIGHTS: saved()}


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **attributes) -> None:
    """Add a member, with attributes of TarInfo."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(data))


def make(path: Path, *members: tuple, mode: str = "w", **good) -> Path:
    """An archive of a config, weights and other members (name, data, attributes)."""
    with tarfile.open(path, mode) as archive:
        for name, data in {**GOOD, **good}.items():
            add(archive, name, data)
        for name, data, attributes in members:
            add(archive, name, data, **attributes)
    return path


def bomb(path: Path, name: str, size: int, kind: bytes = tarfile.REGTYPE) -> Path:
    """A gzipped archive with a member of zeros, a thousandth of its size on disk."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(size // MIB):
            file.write(bytes(MIB))
        file.write(bytes(1024))
    return path


MEASURE = """
import resource, sys
from pathlib import Path
from src.interop.archive import read_archive

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
try:
    read_archive(Path(sys.argv[1]))
except ValueError as error:
    print(peak() - before, error)
"""


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        (CONFIG, tarfile.REGTYPE, f"'{CONFIG}' has 314572800 bytes; at most {MAX_CONFIG} are read"),
        (WEIGHTS, tarfile.REGTYPE, f"'{WEIGHTS}' has 314572800 bytes; at most "),
        ("other", tarfile.REGTYPE, "'other' has 314572800 bytes; at most "),
        ("long", tarfile.GNUTYPE_LONGNAME, "has a header of 314572800 bytes; at most "),
        ("pax", tarfile.XHDTYPE, "has a header of 314572800 bytes; at most "),
    ],
)
def test_compressed_archive_needs_little_memory(tmp_path, name, kind, words):
    path = bomb(tmp_path / "big.nemo", name, 300 * MIB, kind)
    assert path.stat().st_size < 2 * MIB
    mebibytes, message = run_code(MEASURE, path).split(maxsplit=1)
    assert int(mebibytes) < 60
    assert message.startswith(f"{path}: refused, ") and words in message


def test_total_size_is_limited(tmp_path):
    path = tmp_path / "big.nemo"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number in range(10):
            member = tarfile.TarInfo(f"part{number}")
            member.size = 3 * MIB
            file.write(member.tobuf() + bytes(3 * MIB))
    with pytest.raises(ValueError, match=r"big.nemo: refused, unpacks to more than \d+ bytes.$"):
        read_archive(path)


def test_number_of_members_is_limited(tmp_path):
    members = [(f"{number}", b"", {}) for number in range(MAX_MEMBERS)]
    with pytest.raises(ValueError, match=f"refused, has more than {MAX_MEMBERS} members.$"):
        read_archive(make(tmp_path / "a.nemo", *members))


@pytest.mark.parametrize("name", [CONFIG, f"./{WEIGHTS}", f".//{CONFIG}"])
def test_duplicate_members_raise(tmp_path, name):
    with pytest.raises(ValueError, match="refused, has two members '"):
        read_archive(make(tmp_path / "a.nemo", (name, b"x", {})))


@pytest.mark.parametrize(
    "kind",
    [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE],
)
def test_special_members_raise(tmp_path, kind):
    member = ("odd", b"", {"type": kind, "linkname": CONFIG})
    with pytest.raises(ValueError, match="refused, its member 'odd' is not a plain file.$"):
        read_archive(make(tmp_path / "a.nemo", member))


def test_sparse_member_raises(tmp_path):
    """Whose size is that of its holes."""
    member = tarfile.TarInfo(WEIGHTS)
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:398] = header[398:410] = header[483:495] = b"00000000000\0"
    header[483:495] = b"77777777777\0"  # 8 GiB when unpacked
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.nemo").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="is not a plain file.$"):
        read_archive(tmp_path / "a.nemo")


def test_nested_members_are_ignored(tmp_path):
    path = tmp_path / "a.nemo"
    with tarfile.open(path, "w") as archive:
        for name, data in GOOD.items():
            add(archive, f"folder/{name}", data)
    with pytest.raises(ValueError, match=f"not a .nemo file, {CONFIG} is missing.$"):
        read_archive(path)


def test_path_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.nemo")
    for path in (tmp_path / "fifo.nemo", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: not a regular file.$"):
            read_archive(path)


@pytest.mark.parametrize("compression", ["", "gz"])
def test_other_members_are_ignored(tmp_path, compression):
    extra = [
        ("folder/tokenizer.model", b"x" * 3000, {}),
        ("folder", b"", {"type": tarfile.DIRTYPE}),
    ]
    path = make(tmp_path / "a.nemo", *extra, mode=f"w:{compression}")
    config, weights = read_archive(path)
    assert config == {"a": 1} and weights["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "text",
    [
        b"a: &x [1, 2]\nb: *x\n",
        b"a: " + b"1" * 5000,
        b"a: !!timestamp x",
        b"a: !!python/object/apply:os.getcwd []",
        b"\xff",
    ],
)
def test_unusual_yaml_raises(tmp_path, text):
    with pytest.raises(ValueError, match="model_config.yaml is not plain YAML.$"):
        read_archive(make(tmp_path / "a.nemo", **{CONFIG: text}))


def test_nested_aliases_are_not_expanded(tmp_path):
    """A short text whose aliases describe 10^9 values, which a message would print."""
    lines = ["a0: &a0 [1]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)
    ]
    text = "\n".join(lines).encode()
    assert len(yaml.safe_load(text)["a9"]) == 10
    with pytest.raises(ValueError, match="is not plain YAML"):
        read_archive(make(tmp_path / "a.nemo", **{CONFIG: text}))


def test_compressed_weights_raise(tmp_path):
    """Torch would unpack them, to any size; it never writes such files."""
    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(10**6)}))) as source,
        zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in source.infolist():
            packed.writestr(member.filename, source.read(member))
    assert len(data.getvalue()) < 10**5
    with pytest.raises(ValueError, match=f"refused, {WEIGHTS} is compressed.$"):
        read_archive(make(tmp_path / "a.nemo", **{WEIGHTS: data.getvalue()}))
    (tmp_path / "a.pt").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match=r"a.pt: refused, it is compressed.$"):
        read_torch(tmp_path / "a.pt", tmp_path / "a.pt", "it")


def test_all_torch_formats_load(tmp_path):
    data = io.BytesIO()
    torch.save({"a": torch.arange(3)}, data, _use_new_zipfile_serialization=False)
    path = make(tmp_path / "a.nemo", **{WEIGHTS: data.getvalue()})
    assert read_archive(path)[1]["a"].tolist() == [0, 1, 2]
