"""Put onnxruntime-web in place for the page in docs/browser: python scripts/get_browser_runtime.py.

The pinned release is downloaded from the npm registry, verified, and the files that the page needs
are extracted to docs/browser/runtime. With --chromium, a headless Chromium for the tests is put in
.chromium too, unless one is installed; it is for Linux on x86-64.
"""

import argparse
import base64
import platform
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.corpora.download import download, unpack
from src.utils.entry import run_command
from src.utils.files import write_beside

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "docs" / "browser" / "runtime"
CHROMIUM = ROOT / ".chromium"
BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")  # of a system
VERSION = "version.txt"  # written last: without it, what is there may not be whole
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir></fontconfig>
"""


@dataclass(frozen=True)
class Package:
    """A release on the npm registry.

    Attributes:
        name: of the package.
        version: of the release.
        integrity: SHA-512 of its archive in base64, as the registry gives it.
        members: the files to extract.
    """

    name: str
    version: str
    integrity: str
    members: tuple[str, ...]

    @property
    def url(self) -> str:
        """Address of the archive."""
        file = f"{self.name.rpartition('/')[2]}-{self.version}.tgz"
        return f"https://registry.npmjs.org/{self.name}/-/{file}"


RUNTIME_PACKAGE = Package(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    (
        "package/dist/ort.wasm.min.mjs",
        "package/dist/ort-wasm-simd-threaded.mjs",
        "package/dist/ort-wasm-simd-threaded.wasm",
    ),
)
CHROMIUM_PACKAGE = Package(
    "@sparticuz/chromium",
    "147.0.0",
    "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ==",
    (
        "package/bin/chromium.br",
        "package/bin/al2023.tar.br",  # the libraries that a bare system lacks
        "package/bin/fonts.tar.br",
    ),
)


def install(package: Package, folder: Path, place: Callable[[Path, Path], None]) -> None:
    """Put the files of a package into a folder, unless this version is there.

    Args:
        package: to download.
        folder: to create, or to replace if another version is there.
        place: called with the folder of the extracted files and that of the result.

    Raises:
        ValueError: the download fails, or is damaged.
        OSError: the disk is full.
    """
    mark = folder / VERSION
    wanted = f"{package.name} {package.version}\n"
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        print(f"{folder}: {wanted.strip()} is there already.")
        return
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "package.tgz"
        digest = base64.b64decode(package.integrity).hex()
        download(package.url, archive, digest, "sha512")
        extract(archive, package.members, Path(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        place(Path(temporary), folder)
    with write_beside(mark) as path:
        path.write_text(wanted, encoding="utf-8")
    print(f"{folder}: {wanted.strip()}")


def extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Extract some regular files of a tar archive into a folder, by the last part of their names.

    Args:
        archive: compressed tar file.
        members: paths in the archive.
        folder: to extract to.

    Raises:
        ValueError: the archive is damaged, or lacks a member.
    """
    try:
        with tarfile.open(archive) as tar:
            for name in members:
                content = tar.extractfile(tar.getmember(name))
                if content is None:
                    raise ValueError(f"{archive}: '{name}' is no file.")
                with content, (folder / PurePosixPath(name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not the expected archive ({error}).") from None


def place_runtime(extracted: Path, folder: Path) -> None:
    """Move the files of onnxruntime-web from one folder to another."""
    for name in RUNTIME_PACKAGE.members:
        shutil.move(extracted / PurePosixPath(name).name, folder)


def place_chromium(extracted: Path, folder: Path) -> None:
    """Decompress Chromium, its libraries and its fonts from one folder to another."""
    import brotli

    for compressed in sorted(extracted.glob("*.br")):
        path = compressed.with_suffix("")
        path.write_bytes(brotli.decompress(compressed.read_bytes()))
        if path.suffix == ".tar":
            unpack(path, folder)
        else:
            shutil.move(path, folder)
    (folder / "chromium").chmod(0o755)
    (folder / "fonts.conf").write_text(FONTS, encoding="utf-8")  # its own has other folders


def get(arguments: argparse.Namespace) -> None:
    """Put in place what is missing.

    Raises:
        ValueError: a download fails, is damaged, or there is no Chromium for this system.
        OSError: the disk is full.
    """
    install(RUNTIME_PACKAGE, RUNTIME, place_runtime)
    if not arguments.chromium:
        return
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    if installed:
        print(f"{installed}: used by the tests.")
        return
    system = (platform.system(), platform.machine())
    if system != ("Linux", "x86_64"):
        raise ValueError(f"--chromium: only for Linux x86_64, not for {' '.join(system)}.")
    install(CHROMIUM_PACKAGE, CHROMIUM, place_chromium)


def main() -> None:
    """Parse the command line and put the files in place."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--chromium", action="store_true", help="also a headless Chromium for the tests"
    )
    arguments = parser.parse_args()
    run_command(lambda: get(arguments))


if __name__ == "__main__":
    main()
