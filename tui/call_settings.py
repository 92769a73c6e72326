"""What the settings file says of calls: to which addresses, and about what.

Read without Textual, as a run without a dashboard calls too. The addresses are secrets: no word
about them has more than the number of their line.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.calling import Caller, Complaint
from engine.callworthy import CALL_KINDS, Callworthy
from engine.channels import (
    NO_APPRISE,
    AppriseChannel,
    MacNotification,
    has_apprise,
    is_address,
    masked,
)
from engine.errors import did_you_mean
from engine.runs import runs_folder, short_name
from tui.bell import TerminalBell, shows_notifications

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from engine.callworthy import CallKind
    from engine.channels import Channel
    from engine.runs import RunDirectory

FILE_NAME = "settings.yaml"
"""Below ``LORA_TUI_HOME``."""
LOOKING_SECONDS = 60.0
"""Whoever started a run sits before the machine for so long: it need not ring."""
CALL_SETTINGS = ("calls", "call_on")


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages go."""

    url: str = field(repr=False)
    line: int
    """In the settings file."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How a person wants to be called."""

    addresses: tuple[Address, ...] = ()
    kinds: frozenset[CallKind] = frozenset(CALL_KINDS)
    """What to call about."""
    bell: bool = True
    """Whether the terminal rings, and a Mac notifies."""
    problems: tuple[str, ...] = ()
    """What the file says that cannot be followed."""


def load_call_settings(folder: Path) -> CallSettings:
    """Read what the settings file below a folder says of calls; the rest of it is not looked at."""
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return CallSettings()
    except (OSError, UnicodeDecodeError):
        return CallSettings(problems=(f"{FILE_NAME} cannot be read, so nobody is called.",))
    # Imported only where there is a file.
    import yaml

    try:
        root: Any = yaml.SafeLoader(text).get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = f"{FILE_NAME} is not YAML{place}, so nobody is called."
        return CallSettings(problems=(problem,))
    nodes = {str(k.value): v for k, v in root.value} if isinstance(root, yaml.MappingNode) else {}
    problems: list[str] = []
    addresses = _addresses(nodes.get("calls"), problems)
    kinds = _kinds(nodes.get("call_on"), problems)
    bell = nodes.get("bell")
    # Whatever else it says is named where the other settings are read.
    rings = bell is None or str(bell.value).lower() not in ("false", "no", "off")
    return CallSettings(addresses, kinds, rings, tuple(problems))


def channels_of(
    settings: CallSettings,
    *,
    has_dashboard: bool,
    platform: str = sys.platform,
    environment: Mapping[str, str] = os.environ,
) -> tuple[list[Channel], list[str]]:
    """Return the ways to a person, and what is wrong with them.

    Args:
        settings: what the person wants.
        has_dashboard: whether there is one, which rings the terminal itself.
        platform: as ``sys.platform`` has it.
        environment: says what the terminal is.
    """
    problems = list(settings.problems)
    channels: list[Channel] = []
    if settings.bell:
        if not has_dashboard and TerminalBell.can_ring(sys.stderr, environment):
            channels.append(TerminalBell(sys.stderr))
        # A terminal that shows notifications of its own would make it two.
        has_terminal = has_dashboard or (sys.stderr is not None and sys.stderr.isatty())
        if platform == "darwin" and not (has_terminal and shows_notifications(environment)):
            channels.append(MacNotification())
    if settings.addresses and not has_apprise():
        return channels, [*problems, NO_APPRISE]
    return [*channels, *apprise_channels(settings)], problems


def apprise_channels(settings: CallSettings) -> list[AppriseChannel]:
    """Return a channel for each address; those of one service are told apart by their lines."""
    names = [masked(address.url) for address in settings.addresses]
    return [
        AppriseChannel(
            address.url,
            name if names.count(name) == 1 else f"{name} (line {address.line})",
            f"{FILE_NAME}, line {address.line}",
        )
        for name, address in zip(names, settings.addresses, strict=True)
    ]


def callers_for(run: RunDirectory, folder: Path, *, has_dashboard: bool) -> list[object]:
    """Return the callbacks that call a person about a run.

    Args:
        run: where it is, or will be.
        folder: has the settings file.
        has_dashboard: whether there is one, which rings the terminal itself.
    """
    settings = load_call_settings(folder)
    channels, problems = channels_of(settings, has_dashboard=has_dashboard)
    named = run.name if run.path.parent == runs_folder() else str(run.path)
    callers: list[object] = [
        Caller(
            channel,
            Callworthy(shlex.quote(named)),
            settings.kinds,
            short_name(run.name),
            run.log_file,
            LOOKING_SECONDS if channel.name in (TerminalBell.name, MacNotification.name) else 0.0,
        )
        for channel in channels
    ]
    return [*callers, *([Complaint(problems)] if problems else [])]


def _addresses(node: Any, problems: list[str]) -> tuple[Address, ...]:
    if node is None or node.tag.endswith(":null"):
        return ()
    if isinstance(node.value, str):
        entries = [node]
    elif node.id == "sequence":
        entries = node.value
    else:
        line = node.start_mark.line + 1
        problems.append(f"{FILE_NAME}, line {line}: calls should be a list of addresses.")
        return ()
    found: list[Address] = []
    for entry in entries:
        line = entry.start_mark.line + 1
        if isinstance(entry.value, str) and is_address(entry.value.strip()):
            found.append(Address(entry.value.strip(), line))
        else:
            problems.append(
                f"{FILE_NAME}, line {line}: calls: this is no address such as ntfy://topic, so "
                "nobody is called there."
            )
    return tuple(found)


def _kinds(node: Any, problems: list[str]) -> frozenset[CallKind]:
    if node is None or node.tag.endswith(":null"):
        return frozenset(CALL_KINDS)
    entries = [node] if isinstance(node.value, str) else node.value
    if node.id == "mapping":
        line = node.start_mark.line + 1
        problems.append(f"{FILE_NAME}, line {line}: call_on should be a list.")
        return frozenset(CALL_KINDS)
    names = {str(entry.value): entry.start_mark.line + 1 for entry in entries}
    for name, line in names.items():
        if name not in CALL_KINDS:
            # Whoever put an address there sees it not.
            shown = masked(name) if is_address(name) else name
            problems.append(
                f"{FILE_NAME}, line {line}: call_on: {shown!r} is not one of "
                f"{', '.join(CALL_KINDS)}.{did_you_mean(name, CALL_KINDS)}"
            )
    return frozenset(kind for kind in CALL_KINDS if kind in names)


def kinds_in_words(kinds: Collection[CallKind]) -> str:
    """Name what is called about."""
    return ", ".join(kind for kind in CALL_KINDS if kind in kinds) or "nothing"
