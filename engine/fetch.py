"""Fetches what a run is made of, and settles which commits that is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import events as ev
from engine.data.rows import is_on_hub
from engine.hub_cache import Repo
from engine.model_files import is_local

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.config import HubDataset, RunConfig
    from engine.download import Surroundings


def fetch(
    config: RunConfig, surroundings: Surroundings | None = None
) -> Generator[ev.Event, None, RunConfig]:
    """Bring a run's model and data from the hub, where they are not on this machine.

    Returns:
        The settings with the commits of model and data, so that the run stays with these.

    Raises:
        InputError: when one is not there, is not for this person, or there is too little space.
        DownloadError: when the line breaks again and again.
    """
    model = None if is_local(config.model) else Repo("model", config.model, config.revision)
    parts = [_of_part(part) for part in config.hf_dataset]
    data = None
    if not parts and is_on_hub(config.data):
        data = Repo("dataset", config.data, config.data_revision)
    wanted = list[Repo]()
    for repo in (model, data, *parts):
        if repo is not None and repo not in wanted:
            wanted.append(repo)
    if not wanted:
        return config
    # Imported here: local runs need none of it.
    from engine.download import download

    fetched = yield from download(wanted, surroundings)
    for each in fetched:
        if each.note:
            yield ev.Warned(time=time.time(), message=f"{each.note}.")

    def settled(repo: Repo | None, given: str | None) -> str | None:
        return given if repo is None else fetched[wanted.index(repo)].commit or given

    return config.model_copy(
        update={
            "revision": settled(model, config.revision),
            "data_revision": settled(data, config.data_revision),
            "hf_dataset": [
                _settle(part, settled(repo, _revision(part)))
                for part, repo in zip(config.hf_dataset, parts, strict=True)
            ],
        }
    )


def _of_part(part: HubDataset) -> Repo | None:
    """The repository of a part; None for local ones, and for names that ``datasets`` has itself."""
    if not is_on_hub(part.path):
        return None
    options = {key: value for key, value in part.config.items() if key != "revision"}
    return Repo("dataset", part.path, _revision(part), options)


def _revision(part: HubDataset) -> str | None:
    revision = part.config.get("revision")
    return None if revision is None else str(revision)


def _settle(part: HubDataset, revision: str | None) -> HubDataset:
    config = part.config if revision is None else {**part.config, "revision": revision}
    return part.model_copy(update={"config": config})
