"""Places on disk in the config of a run, which say nothing to anyone else."""

import inspect
import re
from typing import Any

from src.utils.annotations import TARGET
from src.utils.nodes import locate

MISSING = "???"  # a value that must be given before it is used
# Keys at the top level that describe the computer and the account of who trained the run.
OWN: dict[str, Any] = {
    "runs": "runs",
    "run_dir": None,
    "device": "auto",
    "threads": None,
    "noise": None,
    "init": {},
    "vars": {},
    "writer": None,
    "next_command": None,
}
# Arguments that are paths, whatever their value.
PATHS = (
    "folder",
    "dir",
    "manifest",
    "metadata",
    "librispeech",
    "wham",
    "language_model",
    "lexicon",  # its words may be those of the language model
)
SUFFIXES = "arpa|bin|ckpt|csv|flac|gz|jsonl?|model|nemo|pt|safetensors|tsv|txt|wav"
PLACE = re.compile(rf"[/\\]|^~|^[A-Za-z]:|\.({SUFFIXES})$")
ABSOLUTE = re.compile(r"/.|~|\\|[A-Za-z]:[/\\]")


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a run without places on disk, nor what describes its author's computer.

    An argument that is a place gets its default value; one without default is `???`, so that it
    must be given. A training transform with such an argument is left out: it isn't needed, but
    would be built.

    Args:
        config: plain and resolved.
    """
    own = {key: OWN[key] for key in config if key in OWN}
    changed = cleaned(config | own)
    for uses in (changed.get("transforms") or {}).values():
        train = (uses or {}).get("train") or {}
        for name in [name for name, one in train.items() if is_missing(one)]:
            del train[name]
    return changed


def cleaned(node: Any) -> Any:
    """A copy of a plain node without places; the monitored metric and the name are none."""
    if isinstance(node, list):
        return [cleaned(value) for value in node]
    if not isinstance(node, dict):
        return node
    copy = {}
    for key, value in node.items():
        if not is_place(key, value):
            copy[key] = cleaned(value)
        elif not has_default(node, key):
            copy[key] = MISSING
    return copy


def is_place(key: Any, value: Any) -> bool:
    """Whether the value of a key is a path, or a list with a path."""
    if isinstance(value, list):
        return any(is_place(key, one) for one in value if isinstance(one, str))
    if not isinstance(value, str) or key in (TARGET, "name", "monitor"):
        return False
    return value != MISSING and (key in PATHS or bool(PLACE.search(value)))


def has_default(node: dict[str, Any], key: str) -> bool:
    """Whether the class of a node gives an argument a default value."""
    if TARGET not in node:
        return False
    parameters = inspect.signature(locate(key, node[TARGET])).parameters
    return key in parameters and parameters[key].default is not inspect.Parameter.empty


def is_missing(node: Any) -> bool:
    """Whether a value in a plain node is `???`."""
    if isinstance(node, dict | list):
        return any(map(is_missing, node.values() if isinstance(node, dict) else node))
    return node == MISSING


def absolute_places(node: Any) -> set[str]:
    """The absolute paths in a plain config."""
    if isinstance(node, dict | list):
        values = node.values() if isinstance(node, dict) else node
        return set().union(*map(absolute_places, values))
    return {node} if isinstance(node, str) and ABSOLUTE.match(node) else set()
