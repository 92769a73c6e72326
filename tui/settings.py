"""The settings file: keys, theme and bell; what is wrong in it is said, and left out."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from textual.keys import KEY_NAME_REPLACEMENTS, Keys, format_key
from textual.theme import BUILTIN_THEMES

from tui.bindings import KEYS, Key
from tui.themes import DEFAULT_THEME, THEMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE_NAME = "settings.yaml"
"""Below ``LORA_TUI_HOME``."""
_KNOWN_KEYS = {key.value for key in Keys} | set(KEY_NAME_REPLACEMENTS.values())
_MODIFIERS = ("ctrl+", "alt+", "shift+", "super+")
_TOGETHER = (("run.pause", "run.resume"),)
"""One key in two states: who moves the first moves the second."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person prefers."""

    theme: str = DEFAULT_THEME
    bell: bool = True
    """Whether the end of a run and a machine short of memory are rung and notified."""
    keys: dict[str, str] = field(default_factory=dict[str, str])
    """Keys by the ids of the table of bindings, with commas between alternatives."""
    problems: tuple[str, ...] = ()
    """What the file says that cannot be followed."""

    @property
    def warning(self) -> str:
        """All problems in one message; empty without any."""
        if not self.problems:
            return ""
        return f"{FILE_NAME}: " + " ".join(self.problems) + " The rest is in force."


def load_settings(folder: Path) -> Settings:
    """Read the settings below a folder; without a file, everything is as it comes."""
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        return Settings(problems=(f"it cannot be read ({error}).",))
    # Imported only where there is a file: the first frame does not wait for it.
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        return Settings(problems=(f"it is not YAML{place}.",))
    return read_settings({} if values is None else values)


def read_settings(values: object) -> Settings:
    """Take what is right from the file's values, and name what is not."""
    if not isinstance(values, dict):
        return Settings(problems=("it should hold keys, theme and bell.",))
    given = cast("dict[Any, Any]", values)
    problems = [
        f"Nothing is called '{name}'; there are keys, theme and bell."
        for name in given
        if name not in ("keys", "theme", "bell")
    ]
    theme = given.get("theme", DEFAULT_THEME)
    if theme not in theme_names():
        problems.append(f"There is no theme '{theme}'; the palette lists them.")
        theme = DEFAULT_THEME
    bell = given.get("bell", True)
    if not isinstance(bell, bool):
        problems.append("bell is true or false.")
        bell = True
    keys = _read_keys(given.get("keys") or {}, problems.append)
    return Settings(str(theme), bell, keys, tuple(problems))


def theme_names() -> list[str]:
    """Give every theme there is, ours first."""
    return [*(theme.name for theme in THEMES), *BUILTIN_THEMES]


def shown_keys(ids: list[str], keys: dict[str, str]) -> str:
    """Say how moved keys are written for people; empty where none of them was moved."""
    if not any(name in keys for name in ids):
        return ""
    known = {key.id: key.keys for key in KEYS}
    parts = [part for name in ids for part in keys.get(name, known[name]).split(",")]
    return " ".join(dict.fromkeys(format_key(part) for part in parts))


def _read_keys(given: object, complain: Callable[[str], None]) -> dict[str, str]:
    if not isinstance(given, dict):
        complain("keys should be ids with their keys, such as run.pause: p.")
        return {}
    known = {key.id: key for key in KEYS}
    moved: dict[str, str] = {}
    for name, value in cast("dict[Any, Any]", given).items():
        if name not in known:
            complain(f"No key has the id '{name}'; the help page lists them.")
        elif wrong := [part for part in _parts(value) if not _is_key(part)] or not _parts(value):
            named = f"'{wrong[0]}'" if isinstance(wrong, list) else "nothing"
            complain(f"{name}: {named} is no key.")
        else:
            moved[str(name)] = ",".join(_parts(value))
    for first, second in _TOGETHER:
        if first in moved:
            moved.setdefault(second, moved[first])
    return _without_conflicts(moved, known, complain)


def _parts(value: object) -> list[str]:
    # YAML reads a bare digit as a number.
    parts = [part.strip() for part in str(value if value is not None else "").split(",")]
    return [part for part in parts if part]


def _is_key(name: str) -> bool:
    bare = name
    for modifier in _MODIFIERS:
        bare = bare.removeprefix(modifier)
    if len(bare) == 1 or bare in _KNOWN_KEYS:
        return True
    try:
        return bool(unicodedata.lookup(bare.replace("_", " ").upper()))
    except KeyError:
        return False


def _without_conflicts(
    moved: dict[str, str], known: dict[str, Key], complain: Callable[[str], None]
) -> dict[str, str]:
    """Leave out keys that would do two things at once on one screen."""
    kept = dict(moved)
    for name in moved:
        for other in KEYS:
            theirs = kept.get(other.id, other.keys)
            shared = set(_names(kept.get(name, ""))) & set(_names(theirs))
            if name in kept and shared and _clash(known[name], other):
                complain(f"{name}: {shown_of(shared)} is already {other.id}'s, so it stays there.")
                del kept[name]
    return kept


def shown_of(keys: set[str]) -> str:
    """Write keys for people."""
    return " ".join(sorted(format_key(key) for key in keys))


def _names(keys: str) -> list[str]:
    """Give Textual's names of keys, for which people also write the characters."""
    return [format_key(part.strip()) for part in keys.split(",") if part.strip()]


def _clash(one: Key, other: Key) -> bool:
    if one.id == other.id or {one.id, other.id} in [set(pair) for pair in _TOGETHER]:
        return False
    # Home and dashboard are never on the screen together; the app's keys work on both.
    return (
        one.place == other.place
        or "home" not in (one.place, other.place)
        or ("app" in (one.place, other.place))
    )
