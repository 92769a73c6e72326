"""A run that somebody fills in: its settings as typed, and what would come of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the form."""

    key: str
    """As configurations name it."""
    label: str
    note: str
    """What it is, in a few words."""
    is_number: bool = True
    may_be_empty: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("model", "model", "folder or hub name", is_number=False),
    Setting("data", "data", "folder, file or hub name", is_number=False),
    Setting("iters", "iterations", "steps to train"),
    Setting("batch_size", "batch", "rows a step"),
    Setting("micro_batch_size", "micro-batch", "rows at once; empty: auto", may_be_empty=True),
    Setting("grad_accumulation_steps", "accumulation", "steps an update"),
    Setting("max_seq_length", "length", "tokens; longer rows are cut"),
    Setting("lora_parameters.rank", "rank", "of the adapters"),
    Setting("learning_rate", "learning rate", "how far an update goes"),
)
"""The settings that people change, in the order of the form."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A preset with the settings as they were typed."""

    preset: str
    values: Mapping[str, str]
    """By the settings' keys."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings without a place on the form that were changed so that it fits."""

    def changed(self, key: str, value: str) -> Draft:
        """Return the draft with one setting typed differently."""
        return replace(self, values={**self.values, key: value})


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would come of a draft."""

    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    """In words, by the settings' keys; under an empty key what belongs to none of them."""
    verdict: str = ""
    """Whether it fits this machine; empty where that cannot be told."""
    fits: bool | None = None
    peak_bytes: int = 0
    budget_bytes: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    """What the memory is for, and bytes."""
    facts: tuple[tuple[str, str], ...] = ()
    """Time, work and what is trained, each with its label."""
    notes: tuple[str, ...] = ()
    """What else somebody should know before starting."""

    @property
    def can_start(self) -> bool:
        """Whether nothing has to be corrected first."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Fitting:
    """A draft changed so that it fits, or as near as it comes."""

    draft: Draft
    changes: tuple[str, ...]
    """What was changed, in words."""


class Planner(Protocol):
    """Says what drafts come to; its methods take a while, so never on the thread that draws."""

    def begin(self, preset: str) -> Draft:
        """Return a preset's own settings."""
        ...

    def look(self, draft: Draft) -> Outlook:
        """Say what would come of a draft; what is wrong with it is in the answer."""
        ...

    def fit(self, draft: Draft) -> Fitting:
        """Change as little as is needed for a draft to fit this machine."""
        ...
