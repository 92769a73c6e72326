"""Libraries that print, for a program that must not show it: put first on ``PYTHONPATH``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WORD = "NOISE"
"""What nobody may ever see on the screen."""
SAID = ("from C", "to the descriptor", "from Python", "a warning", "logged")
_SITE = """
import ctypes, logging, os, sys, threading, time, warnings

def make_noise():
    libc = ctypes.CDLL(None)
    for _ in range(50):
        libc.puts(b"{word} from C")
        libc.fflush(None)
        os.write(2, b"{word} to the descriptor\\n")
        print("{word} from Python", flush=True)
        warnings.warn("{word} a warning", stacklevel=1)
        logging.getLogger("{word}").warning("{word} logged")
        time.sleep(0.1)

def wait_for_the_model():
    while "mlx_lm" not in sys.modules:
        time.sleep(0.1)
    # What other commands say is shown to whoever started them.
    if "run" in sys.argv:
        warnings.simplefilter("always")
        make_noise()

threading.Thread(target=wait_for_the_model, daemon=True).start()
"""


def make_site(folder: Path) -> Path:
    """Write a module that Python imports when it starts: once a run loads, it prints for 5 s."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITE.format(word=WORD), encoding="utf-8")
    return folder
