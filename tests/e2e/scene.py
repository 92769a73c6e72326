"""What the end-to-end tests run: a real model on real chats, in folders of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from tests.cli.program import Outcome

CHATS = Path(__file__).resolve().parents[1] / "data" / "chat"
MOST_CHARACTERS = 36
"""Of an exchange that is short enough to be trained on many times a minute."""
EXCHANGES = 16
"""Few enough to be seen again within a run."""


@dataclass(frozen=True)
class Scene:
    """A model, and a folder for what is made of it."""

    folder: Path
    model: Path
    exchanges: Path
    """Short rows of real chats."""

    def config(self, name: str, **changes: Any) -> Path:
        """Write a configuration and return its path."""
        values: dict[str, Any] = {
            "model": str(self.model),
            "data": str(CHATS),
            "num_layers": -1,
            "val_batches": 0,
            "save_every": 1_000_000,
            "lora_parameters": {"rank": 8, "scale": 20.0, "dropout": 0.0},
        } | changes
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Trained:
    """A run that is over, and what mlx-lm's own parts come to on the same batches."""

    folder: Path
    outcome: Outcome
    stock: list[float]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Give the run's events of one kind."""
        return [event for event in self.outcome.events if event["event"] == kind]

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [step["loss"] for step in self.of_kind("step")]


def make_exchanges(folder: Path) -> Path:
    """Cut a few short exchanges out of the real chats: 20 to 30 tokens each."""
    folder.mkdir()
    for split in ("train", "valid"):
        chats = (CHATS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = (row for chat in chats for row in _exchanges(json.loads(chat)["messages"]))
        text = "".join(f"{json.dumps(row)}\n" for row in islice(rows, EXCHANGES))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def _exchanges(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
    turns = [message for message in messages if message["role"] != "system"]
    # Without one, the model's template puts in a long system message of its own.
    system = {"role": "system", "content": "Chat."}
    return [
        {"messages": [system, question, answer]}
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
        if len(question["content"]) + len(answer["content"]) <= MOST_CHARACTERS
    ]
