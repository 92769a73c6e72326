"""Sends an adapter to the Hugging Face hub: only what others need, and nothing of this machine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine import checkpoint
from engine.card import CARD, CURVE, card_text
from engine.errors import InputError, RunError
from engine.model_files import is_local

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.use.chosen import Chosen

PRIVATE = ("adapter_path", "config", "resume_adapter_file")
"""Settings that only mean something on this machine."""
ENDPOINT = "https://huggingface.co"


@contextmanager
def package(chosen: Chosen) -> Generator[Path]:
    """Lay out what is sent in a temporary folder: card, settings, weights."""
    with tempfile.TemporaryDirectory(prefix="lora-tui-upload-") as name:
        folder = Path(name)
        # A link costs nothing; another file system gets a copy.
        try:
            os.link(chosen.file, folder / checkpoint.LATEST)
        except OSError:
            shutil.copyfile(chosen.file, folder / checkpoint.LATEST)
        (folder / checkpoint.ADAPTER_CONFIG).write_text(_settings(chosen), encoding="utf-8")
        card = chosen.folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else card_text(chosen.config)
        (folder / CARD).write_text(text, encoding="utf-8")
        if (chosen.folder / CURVE).is_file():
            shutil.copyfile(chosen.folder / CURVE, folder / CURVE)
        yield folder


def upload(chosen: Chosen, repository: str, *, is_private: bool) -> str:
    """Send an adapter to a repository of the hub, which is made if it is not there.

    Args:
        chosen: the adapter.
        repository: ``owner/name``.
        is_private: whether a new one is private.

    Returns:
        The repository's address.

    Raises:
        InputError: when the name is none, or nobody is logged in.
        RunError: when the hub refuses or does not answer.
    """
    import httpx2
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
    )

    if get_token() is None:
        raise InputError(
            "Nobody is logged in to the Hugging Face hub.", "Log in with: hf auth login"
        )
    api: Any = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or ENDPOINT)
    try:
        with package(chosen) as folder:
            address = str(api.create_repo(repository, private=is_private, exist_ok=True))
            api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Add {chosen.label.rpartition('/')[2]}",
            )
    except HFValidationError as error:
        raise InputError(f"{repository} is no name on the hub: {error}", "OWNER/NAME.") from None
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise RunError(
            f"The upload failed ({type(error).__name__}): {error}",
            "Nothing was changed here. Try again; what was sent is not sent twice.",
        ) from None
    return address


def _settings(chosen: Chosen) -> str:
    path = chosen.folder / checkpoint.ADAPTER_CONFIG
    values = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    kept = {key: value for key, value in values.items() if key not in PRIVATE}
    for key in ("model", "data"):
        if isinstance(name := kept.get(key), str) and is_local(name):
            kept[key] = Path(name).name
    return json.dumps(dict(sorted(kept.items())), indent=4)
