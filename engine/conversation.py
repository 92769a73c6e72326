"""What is said to a model and what comes back, in plain values: nothing here needs MLX."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Message = dict[str, str]
"""``{"role": "user", "content": "…"}``."""
Ending = Literal["end", "length", "stopped", "time"]
Side = Literal["adapter", "base"]
SIDES: tuple[Side, ...] = ("adapter", "base")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn."""

    max_tokens: int = 256
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Share of the probability that tokens are drawn from."""
    seed: int = 0
    max_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer took."""

    ending: Ending
    prompt_tokens: int
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answer a second, the prompt's time included."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """There is somebody to talk to."""

    label: str
    has_base: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer."""

    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer is over."""

    side: Side
    ending: Ending
    tokens: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Told:
    """Something to know; after an error nothing is in flight any more."""

    message: str
    is_error: bool = False


TalkEvent = Ready | Piece | Answered | Told


@dataclass(slots=True)
class Conversation:
    """What was said, on either side; the person's turns are the same on both."""

    turns: dict[Side, list[Message]] = field(default_factory=lambda: {side: [] for side in SIDES})

    _before: dict[Side, list[Message]] = field(default_factory=dict["Side", "list[Message]"])

    def say(self, text: str) -> None:
        """Add the person's next turn."""
        self._before = {side: list(turns) for side, turns in self.turns.items()}
        for turns in self.turns.values():
            # A side that did not answer hears both things in one turn: speakers take turns.
            if turns and turns[-1]["role"] == "user":
                turns[-1] = {"role": "user", "content": f"{turns[-1]['content']}\n{text}"}
            else:
                turns.append({"role": "user", "content": text})

    def take_back(self) -> None:
        """Make the newest turn unsaid: nobody could answer it."""
        if self._before:
            self.turns, self._before = self._before, {}

    def add(self, piece: Piece) -> None:
        """Add to a side's answer."""
        turns = self.turns[piece.side]
        if turns and turns[-1]["role"] == "assistant":
            said = turns[-1]["content"] + piece.text
            turns[-1] = {"role": "assistant", "content": said}
        else:
            turns.append({"role": "assistant", "content": piece.text})

    def answer(self, side: Side) -> str:
        """Return a side's newest answer, or nothing."""
        turns = self.turns[side]
        return turns[-1]["content"] if turns and turns[-1]["role"] == "assistant" else ""

    def clear(self) -> None:
        """Begin anew."""
        for turns in self.turns.values():
            turns.clear()
