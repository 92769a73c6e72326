"""Asks the Hugging Face hub what a repository holds, and receives files where they left off.

The hub's own library keeps no half-received file and cannot be interrupted, which on a slow line
costs gigabytes; so the bytes are received here, over the same addresses.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import quote

import httpx2

from engine.data.sources import near_name
from engine.errors import DataError, DownloadError, InputError, ModelError
from engine.files import sync
from engine.hub import endpoint
from engine.hub_cache import MAIN, HubFile, Repo, is_commit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from io import FileIO

Wait = Callable[[float], Awaitable[None]]
T = TypeVar("T")

TIMEOUT = httpx2.Timeout(10.0, read=20.0)
"""Seconds in which a server has to take a connection, and to send anything at all."""
ASK_TRIES, RECEIVE_TRIES = 3, 6
"""How often something is tried in a row that brings nothing."""
DAMAGED_TRIES = 2
"""How often a file may come damaged: it costs all its bytes each time."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
_HASHED_AT_ONCE = 4_000_000
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may do better the next time."""


class UnreachableError(Exception):
    """The hub did not answer, or not as a hub does; in words."""


class _BrokenError(Exception):
    """A try that failed and may be made again; in words."""


class _DamagedError(_BrokenError):
    """A try that brought something else than the hub lists; in words."""


@dataclass(slots=True)
class Meter:
    """What a download is about and how far it is, for who watches."""

    message: str = "asking the hub"
    done: int = 0
    total: int = 0
    trouble: str = ""
    """What is in the way right now, in words."""
    received: int = 0
    """Bytes that came over the line, those that came in vain too."""
    position: int = 0
    """How far the file at hand is, as ``done`` has it."""

    def move_to(self, position: int) -> None:
        """Count the file at hand as being there now."""
        self.done += position - self.position
        self.position = position

    def add(self, count: int) -> None:
        """Count bytes of the file at hand that arrived."""
        self.trouble = ""
        self.received += count
        self.move_to(self.position + count)


@dataclass(slots=True)
class HubClient:
    """A connection to the hub, within one event loop."""

    http: httpx2.AsyncClient
    meter: Meter = field(default_factory=Meter)
    wait: Wait = asyncio.sleep
    has_token: bool = False

    async def find_commit(self, repo: Repo) -> str:
        """Return the commit that a repository's revision is now.

        Raises:
            InputError: when there is no such repository, or it is not for this person.
            UnreachableError: when the hub does not answer.
        """
        revision = repo.revision or MAIN
        if is_commit(revision):
            return revision
        response = await self._ask(repo, f"{repo.api}/revision/{quote(revision, safe='')}")
        commit = cast("dict[str, Any]", _json(response, dict)).get("sha")
        if not isinstance(commit, str) or not is_commit(commit):
            raise UnreachableError("what answers there is no hub")
        return commit

    async def list_files(self, repo: Repo, commit: str) -> list[HubFile]:
        """Return all files of a commit.

        Raises:
            InputError: as ``find_commit``.
            UnreachableError: as ``find_commit``.
        """
        files: list[HubFile] = []
        address: str | None = f"{repo.api}/tree/{commit}?recursive=true"
        while address:
            response = await self._ask(repo, address)
            entries = cast("list[Any]", _json(response, list))
            files.extend(_file(entry) for entry in entries if _is_file(entry))
            address = response.links.get("next", {}).get("url")
        return files

    async def receive(self, repo: Repo, commit: str, file: HubFile) -> None:
        """Receive what is missing of a file, and put it in its place when it is whole.

        Raises:
            InputError: as ``find_commit``.
            DownloadError: when the line breaks again and again, or what comes is damaged.
            OSError: when it cannot be written.
        """
        part = repo.part(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        self.meter.position = repo.arrived_bytes(file)
        tries = damaged = 0
        while repo.missing(commit, [file]):
            before = self.meter.received
            try:
                # Unbuffered: what arrived is kept, however this process ends.
                with part.open("ab", buffering=0) as out:
                    if not _is_ours(out, part):
                        await self._wait_out("another process is downloading it", 1)
                        continue
                    await self._receive_rest(repo, commit, file, out)
                    await self._check(file, out, part)
                    sync(part)
                    repo.adopt(file)
            except _BrokenError as error:
                damaged += isinstance(error, _DamagedError)
                tries = 1 if self.meter.received > before else tries + 1
                if tries >= RECEIVE_TRIES or damaged >= DAMAGED_TRIES:
                    raise DownloadError(
                        f"The download of {file.path} of {repo.name} broke off at "
                        f"{in_units(part.stat().st_size)} of {in_units(file.size)}: {error}.",
                        "What arrived is kept. Start the run again to go on from there.",
                    ) from error
                await self._wait_out(str(error), tries)
        self.meter.move_to(file.size)

    async def read(self, repo: Repo, commit: str, path: str) -> bytes:
        """Return a small file's content.

        Raises:
            InputError: as ``find_commit``.
            UnreachableError: as ``find_commit``.
        """
        return (await self._ask(repo, _address(repo, commit, path))).content

    async def _ask(self, repo: Repo, address: str) -> httpx2.Response:
        for tries in range(1, ASK_TRIES + 1):
            try:
                return await self._ask_once(repo, address)
            except _BrokenError as error:
                if tries == ASK_TRIES:
                    raise UnreachableError(str(error)) from error
                await self._wait_out(str(error), tries)
        raise AssertionError

    async def _ask_once(self, repo: Repo, address: str) -> httpx2.Response:
        async with _trouble():
            response = await self.http.get(address)
        self._refuse(repo, response)
        return response

    async def _wait_out(self, trouble: str, tries: int) -> None:
        seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (tries - 1))
        self.meter.trouble = f"{trouble}; trying again in {seconds:.0f} s"
        await self.wait(seconds)

    async def _receive_rest(self, repo: Repo, commit: str, file: HubFile, out: FileIO) -> None:
        """Add what is missing to a file that is open at its end."""
        if (have := out.tell()) > file.size:
            have = self._begin_anew(out)
        self.meter.move_to(have)
        if have == file.size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        address = _address(repo, commit, file.path)
        async with _trouble(), self.http.stream("GET", address, headers=headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._begin_anew(out)
                raise _BrokenError("the hub does not go on where it was")
            self._refuse(repo, response)
            if have and not _goes_on_at(response, have):
                self._begin_anew(out)
            async for chunk in response.aiter_bytes():
                out.write(chunk)
                self.meter.add(len(chunk))
                if out.tell() > file.size:
                    break
        if (size := out.tell()) < file.size:
            raise _BrokenError("the connection ended early")
        if size > file.size:
            self._begin_anew(out)
            raise _DamagedError(f"more came than the {file.size:,} bytes that the hub lists")

    async def _check(self, file: HubFile, out: FileIO, part: Path) -> None:
        """Compare what came with its hash; what is damaged is thrown away."""
        with part.open("rb") as content:
            is_whole = file.digest == await _digest(content, file)
        if not is_whole:
            self._begin_anew(out)
            raise _DamagedError("what came is not what the hub lists")

    def _begin_anew(self, out: FileIO) -> int:
        out.seek(0)
        out.truncate()
        self.meter.move_to(0)
        return 0

    def _refuse(self, repo: Repo, response: httpx2.Response) -> None:
        """Raise what a hub's answer means, unless it is what was asked for.

        The hub gives its reasons in ``X-Error-Code``; without one, a repository that is not there
        and one that is not for this person look the same (401).
        """
        if response.is_success:
            return
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status in _PASSING:
            raise _BrokenError(f"the hub has trouble (HTTP {status})")
        wrong = _model_error if repo.kind == "model" else _data_error
        name, what = repo.name, repo.kind
        if code == "GatedRepo":
            raise wrong(f"{name} asks for its licence to be accepted.", self._unlock(repo))
        if code == "RevisionNotFound":
            raise wrong(
                f"{name} has no revision {repo.revision or MAIN}.",
                f"Choose another, or take the setting {_setting(repo)} away for the newest.",
            )
        if code == "RepoNotFound" or (not code and status in (401, 404)):
            near = near_name(Path(name)) if what == "dataset" else ""
            raise wrong(
                f"The Hugging Face hub has no {what} {name}, or it is private.{near}",
                f"Check the name; for a private {what} log in with: hf auth login",
            )
        said = response.headers.get("X-Error-Message") or response.reason_phrase
        raise wrong(
            f"The Hugging Face hub refused {name}: {said} (HTTP {status}).",
            f"See {repo.page}; if your access token is not valid, log in with: hf auth login",
        )

    def _unlock(self, repo: Repo) -> str:
        if self.has_token:
            return (
                f"Accept it at {repo.page} with the account that you are logged in with; "
                "its author may have to agree. Then try again."
            )
        return f"Accept it at {repo.page}, then log in with: hf auth login"


def _model_error(message: str, hint: str) -> InputError:
    return ModelError(message, hint)


def _data_error(message: str, hint: str) -> InputError:
    return DataError(message, hint=hint)


def _setting(repo: Repo) -> str:
    return "revision" if repo.kind == "model" else "data_revision"


def _address(repo: Repo, commit: str, path: str) -> str:
    return f"{repo.page}/resolve/{commit}/{quote(path)}"


def in_units(count: int) -> str:
    """Say a number of bytes."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"


def _is_ours(out: FileIO, part: Path) -> bool:
    """Whether an open file is this process's alone, and has not been put in its place meanwhile."""
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        pass
    try:
        return os.path.samestat(os.fstat(out.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _goes_on_at(response: httpx2.Response, position: int) -> bool:
    content_range = response.headers.get("Content-Range", "")
    is_part = response.status_code == HTTPStatus.PARTIAL_CONTENT
    if is_part and not content_range.startswith(f"bytes {position}-"):
        raise _BrokenError("the hub sent another part than it was asked for")
    return is_part


async def _digest(content: BinaryIO, file: HubFile) -> str:
    """Hash as the hub does; lets others have a turn in between."""
    sha256_length = 64
    if len(file.digest) == sha256_length:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    while block := content.read(_HASHED_AT_ONCE):
        digest.update(block)
        await asyncio.sleep(0)
    return digest.hexdigest()


@asynccontextmanager
async def _trouble() -> AsyncGenerator[None]:
    """Put what a network does into words."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise _BrokenError("nothing comes any more") from error
    except httpx2.ConnectError as error:
        is_known = "CERTIFICATE" not in str(error)
        why = "cannot be reached" if is_known else "has a certificate that is not trusted here"
        raise _BrokenError(f"the hub {why}") from error
    except httpx2.InvalidURL as error:
        raise UnreachableError(f"{endpoint()} is no address") from error
    except httpx2.HTTPError as error:
        raise _BrokenError("the connection broke") from error


def _json(response: httpx2.Response, wanted: type[T]) -> T:
    try:
        value = response.json()
    except ValueError as error:
        raise UnreachableError("what answers there is no hub") from error
    if not isinstance(value, wanted):
        raise UnreachableError("what answers there is no hub")
    return value


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and cast("dict[str, Any]", entry).get("type") == "file"


def _file(entry: dict[str, Any]) -> HubFile:
    """Read a file of a listing; names that lead out of its folder are no names."""
    large = cast("dict[str, Any]", entry.get("lfs") or entry)
    try:
        file = HubFile(str(entry["path"]), int(large["size"]), str(large["oid"]))
        int(file.digest, 16)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableError("what answers there is no hub") from error
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts:
        raise UnreachableError(f"it lists a file with the name {file.path!r}")
    return file
