"""Where the Hugging Face hub's files are kept here, and whether the hub can be reached.

Asks once and briefly, without the hub's own libraries: those retry for half a minute, or wait
without end on a network that swallows everything.
"""

from __future__ import annotations

import os
from pathlib import Path

ANSWER_SECONDS = 5.0
_OFFLINE = "HF_HUB_OFFLINE"


def cache_folder() -> Path:
    """Return the folder that the hub's downloads are kept in, on this machine."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def endpoint() -> str:
    """Return the hub's address; ``HF_ENDPOINT`` gives another one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the hub is not to be asked, because somebody said so or it does not answer."""
    return os.environ.get(_OFFLINE, "").upper() in {"1", "ON", "YES", "TRUE"}


def is_cached(model: str) -> bool:
    """Whether a hub model was downloaded before."""
    folder = cache_folder() / f"models--{model.replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/config.json"))


def is_reachable() -> bool:
    """Whether the hub answers; when it does not, its libraries are told to use what is here."""
    if is_offline():
        return False
    if _answers(endpoint()):
        return True
    # Read when huggingface_hub is imported, which is when a run begins to load.
    os.environ[_OFFLINE] = "1"
    return False


def _answers(address: str) -> bool:
    import ssl
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # Python's own certificates may be missing where the hub's library has its own.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False
