"""Put onnxruntime-web in place for the page in docs/browser: python scripts/get_browser_runtime.py.

The pinned release is downloaded from the npm registry, checked, and the files that the page needs are
extracted to docs/browser/runtime. With --chromium also a headless Chromium for the tests is put in
.chromium, if none is installed; it runs on Linux on x86-64.
"""

import argparse
import base64
import io
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.download import download, write_members
from src.utils.entry import run_command
from src.utils.files import write_beside

ROOT = Path(__file__).parents[1]
RUNTIME, CHROMIUM = ROOT / "docs" / "browser" / "runtime", ROOT / ".chromium"
BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")  # of a system
VERSION = "version.txt"  # written last, so that an extraction that was interrupted is repeated
