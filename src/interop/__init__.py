"""Other projects' checkpoints, in and out."""

from src.interop.clearervoice import load_clearervoice, save_clearervoice
from src.interop.nemo import load_nemo, save_nemo

__all__ = ["load_clearervoice", "load_nemo", "save_clearervoice", "save_nemo"]
