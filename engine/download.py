"""Brings what a run needs from the Hugging Face hub, before anything is loaded.

A run keeps the commits that it was made with, so that it goes on with the same model and data. What
is here already is not asked for again, and a download that was cut goes on where it was.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from engine import events as ev
from engine.checkpoint import FULL_DISK, RESERVE_BYTES
from engine.errors import DataError, DownloadError, InputError, ModelError
from engine.hub import cache_folder, is_offline
from engine.hub_cache import HubFile, Repo, is_commit
from engine.hub_client import TIMEOUT, HubClient, Meter, UnreachableError, Wait, in_units
from engine.hub_files import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from pathlib import Path

TICK_SECONDS = 0.25
"""How often a download is looked at, and at most how long it takes to notice a stop."""
SPEED_SECONDS = 8.0
"""How long lately is, when speed is measured."""

T = TypeVar("T")


def free_bytes(folder: Path) -> int:
    """Return the space left where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a download asks of the machine."""

    free_bytes: Callable[[Path], int] = free_bytes
    wait: Wait = asyncio.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a wish for a repository."""

    repo: Repo
    commit: str | None
    """None when only what the libraries have cached themselves can be used."""
    note: str = ""
    """What a person should know, in words."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be fetched of one repository."""

    repo: Repo
    commit: str
    choice: Choice
    missing: tuple[HubFile, ...]

    @property
    def bytes_left(self) -> int:
        """What has still to come."""
        return sum(file.size - self.repo.arrived_bytes(file) for file in self.missing)


def download(
    repos: Sequence[Repo], surroundings: Surroundings | None = None
) -> Generator[ev.Event, None, list[Fetched]]:
    """Bring repositories into the hub's cache; yields how far it is, about four times a second.

    Closing the generator stops within a tick; what arrived is kept for the next time.

    Raises:
        InputError: when one is not there, is not for this person, or there is too little space.
        DownloadError: when the line breaks again and again.
    """
    around = surroundings or Surroundings()
    meter = Meter(message=f"asking the hub for {_names(repos)}")
    speed = _Speed(around.clock)

    def look() -> ev.Progress:
        left = meter.total - meter.done
        pace = speed.of(meter.received)
        return ev.Progress(
            time=time.time(),
            stage="download",
            message=meter.message,
            done=meter.done,
            total=meter.total,
            per_second=pace,
            seconds_left=left / pace if pace else None,
            trouble=meter.trouble,
        )

    try:
        fetched = yield from _driven(_fetch(repos, meter, around), look)
    except OSError as error:
        raise _not_written(error) from error
    if meter.received:
        yield look()
    return fetched


def _driven(
    work: Coroutine[object, object, T], look: Callable[[], ev.Event]
) -> Generator[ev.Event, None, T]:
    """Run asynchronous work from a generator, which can be closed at any of its looks."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        while True:
            loop.run_until_complete(asyncio.wait({task}, timeout=TICK_SECONDS))
            if task.done():
                return task.result()
            yield look()
    finally:
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()


async def _fetch(repos: Sequence[Repo], meter: Meter, around: Surroundings) -> list[Fetched]:
    # Imported here: it is only needed where there is something to fetch.
    import httpx2
    from huggingface_hub import get_token

    token = get_token()
    headers = {"User-Agent": "lora-tui"} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, follow_redirects=True) as http:
        client = HubClient(http, meter, around.wait, has_token=token is not None)
        found = [await _find(client, repo) for repo in repos]
        plans = [each for each in found if isinstance(each, _Plan)]
        _check_space(plans, around)
        await _receive(client, plans)
    return [Fetched(each.repo, each.commit) if isinstance(each, _Plan) else each for each in found]


async def _find(client: HubClient, repo: Repo) -> _Plan | Fetched:
    """Find out what is to be fetched; nothing of what is here, where the hub is not to be had."""
    whole = repo.find_whole()
    if whole is not None and (is_offline() or is_commit(repo.revision or "")):
        return Fetched(repo, repo.cached_commit())
    if is_offline():
        return _without_hub(repo, "this machine is offline")
    try:
        commit = await client.find_commit(repo)
        choice = await choose(client, repo, commit)
    except UnreachableError as error:
        return _without_hub(repo, str(error))
    except InputError as error:
        if whole is None:
            raise
        return _without_hub(repo, error.message.rstrip("."))
    return _Plan(repo, commit, choice, tuple(repo.missing(commit, choice.files)))


def _without_hub(repo: Repo, why: str) -> Fetched:
    """Make do with what is here.

    Raises:
        ModelError: when it is a model, and not here.
    """
    commit = repo.cached_commit()
    if commit and repo.find_whole() is not None:
        note = f"{why}: {repo.name} is used as it was downloaded before ({commit[:8]})"
        return Fetched(repo, commit, note)
    if repo.kind == "dataset" and is_offline() and not repo.folder.exists():
        # What datasets downloaded by itself is known to it alone; offline, it asks nobody.
        return Fetched(repo, None)
    half = " whole" if repo.folder.exists() else ""
    message = (
        f"{repo.name} is not{half} on this machine, and the Hugging Face hub is needed: {why}."
    )
    if repo.kind == "dataset":
        raise DataError(message, hint="Connect and try again, or give a local folder with --data.")
    raise ModelError(message, "Connect and try again, or give a model's folder with --model.")


def _check_space(plans: Sequence[_Plan], around: Surroundings) -> None:
    """Check that all of it fits.

    Raises:
        InputError: with what is needed and what there is.
    """
    left = sum(plan.bytes_left for plan in plans)
    if not left:
        return
    folder, needed = cache_folder(), left + RESERVE_BYTES
    free = around.free_bytes(folder)
    if free < needed:
        raise InputError(
            f"Downloading {_names([p.repo for p in plans if p.missing])} needs "
            f"{in_units(needed)}, but only {in_units(free)} are free in {folder}.",
            f"Free {in_units(needed - free)} there, or set HF_HOME to a folder with more space.",
        )


async def _receive(client: HubClient, plans: Sequence[_Plan]) -> None:
    meter = client.meter
    wanted = [plan for plan in plans if plan.missing]
    if wanted:
        meter.message = f"downloading {_names([plan.repo for plan in wanted])}"
        meter.total = sum(file.size for plan in wanted for file in plan.missing)
        meter.done = meter.total - sum(plan.bytes_left for plan in wanted)
    for plan in plans:
        for file in plan.missing:
            await client.receive(plan.repo, plan.commit, file)
        if plan.choice.files:
            plan.repo.remember(plan.commit, plan.choice.files, plan.choice.names)


@dataclass(slots=True)
class _Speed:
    """Bytes a second over the last seconds."""

    clock: Callable[[], float]
    _seen: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])

    def of(self, received: int) -> float | None:
        """Return the speed, given how many bytes there are by now; None while nothing comes."""
        now = self.clock()
        self._seen.append((now, received))
        while now - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (received - before) / (now - since) if received > before and now > since else None


def _not_written(error: OSError) -> InputError | DownloadError:
    folder = cache_folder()
    if error.errno in FULL_DISK:
        return InputError(
            f"The disk is full: {in_units(free_bytes(folder))} are free in {folder}.",
            "Free space there, or set HF_HOME to a folder with more. What arrived is kept.",
        )
    why = error.strerror or str(error)
    hint = "Make it writable, or set HF_HOME to another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"The hub's cache {folder} cannot be written: {why}.", hint)
    return DownloadError(f"The hub's cache {folder} cannot be written: {why}.", hint)


def _names(repos: Sequence[Repo]) -> str:
    return " and ".join(dict.fromkeys(repo.label for repo in repos))
