"""Makes the chat rows in `chat/` from a package of genuine human conversations.

    uv run --no-sync --with chitchat-dataset==0.9.0 python -m tests.data.make_chat

It is not part of the tests: its output is committed. The same package gives the same rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = "chitchat-dataset"
DESTINATION = Path(__file__).with_name("chat")

SPLITS = (("test", 26), ("valid", 26), ("train", 176))
"""How many rows each file gets."""

BINS = ((8, 25, 38), (25, 60, 62), (60, 120, 56), (120, 220, 44), (220, 480, 28))
"""Words from, words below, and rows: many short chats and a long tail, as chat logs have."""

MAX_WORDS = 400
"""Longer chats end early, at the end of a turn: about 700 tokens with the template's own."""

UNWANTED = re.compile(
    # Ways to find a person, and people by name.
    r"https?:|www\.|\.com|@|\d{4,}|instagram|snapchat|facebook|\bfb\b|\binsta\b|twitter|phone"
    r"|number|address|e-?mail|\bname|nice to meet|who (is|are) (this|you)"
    r"|\b(i'?m|i am|this is|its|it's|hi|hey|hello)[ ,]+(?-i:[A-Z][a-z]+)"
    r"|\b(adam|ben|chan|chandler|david|duckwitz|hunter|jaezo|jared|jaxon|jeremy|natalie|shaw)\b"
    r"|\b(taylor|zephyr)\b"
    # What one would not say to a stranger.
    r"|sex|porn|naked|nude|fuck|shit|bitch|damn|\bass\b|\bhell\b|crap|dick|penis|boob|slut|whore"
    r"|\bgay|lesbian|\btrans\b|racis|nazi|hitler|jew|muslim|islam|terror|suicid|kill|murder|rape"
    r"|\bdie\b|dead|death|died|drug|weed|drunk|alcohol|beer|abus|depress|anxiety|cancer|hospital"
    r"|girlfriend|boyfriend|husband|wife|married|marry|dating|\bdate\b|crush|single|flirt|kiss"
    r"|\bcute|\bhot\b|attractive|sister|brother|\bmom\b|\bdad\b|parents"
    r"|\bptsd\b|\bssn\b|white people|go out sometime|\basdf\b"
    # Politics and religion.
    r"|trump|obama|clinton|hillary|democrat|republican|liberal|conservative|abortion|\bgun|politic"
    r"|\bgod\b|jesus|christ|church|mormon|\blds\b|\bbyu|provo|bishop|mission|temple|prophet|bible"
    r"|religio|pray|faith|gospel|heaven|lord|savior|spirit|scripture|tithing"
    r"|hymn|bapti|devotional|\bfhe\b|righteous|devil|satan",
    re.IGNORECASE,
)
"""A chat that matches anywhere is left out whole: there are enough others."""

REJECTED = frozenset(
    {
        "0652dfecec420492",
        "1d585ff1c8bb0c4f",
        "2153056629716ed6",
        "2951f853058ddf47",
        "33c78892b97d2191",
    }
)
"""Chats left out after reading them: they name or describe a private person, or say nothing."""


@dataclass(frozen=True)
class Chat:
    """One conversation between two people: the turns alternate, and the second one answers."""

    key: str
    prompt: str | None
    turns: tuple[str, ...]

    @property
    def words(self) -> int:
        """How long it is."""
        return sum(len(turn.split()) for turn in self.turns)

    def row(self) -> dict[str, Any]:
        """Give it in the chat format; half of the rows carry what both people were asked."""
        messages: list[dict[str, str]] = []
        if self.prompt and int(self.key[-1], 16) % 2:
            messages.append({"role": "system", "content": f"Conversation starter: {self.prompt}"})
        for index, turn in enumerate(self.turns):
            messages.append({"role": ("user", "assistant")[index % 2], "content": turn})
        return {"messages": messages}


def main() -> None:
    """Write the three files."""
    chats = iter(select(read(find_source())))
    DESTINATION.mkdir(exist_ok=True)
    for split, count in SPLITS:
        rows = [json.dumps(next(chats).row(), ensure_ascii=False) for _ in range(count)]
        (DESTINATION / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def find_source() -> Path:
    """Find the package's one data file."""
    for file in metadata.files(PACKAGE) or []:
        if file.name == "dataset.json":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the package {PACKAGE} holds no dataset.json")


def read(source: Path) -> Iterator[Chat]:
    """Read the conversations in which both people spoke and nothing unwanted was said."""
    for identifier, record in json.loads(source.read_text(encoding="utf-8")).items():
        turns = _trim(_turns(record["messages"]))
        key = hashlib.sha256(identifier.encode()).hexdigest()[:16]
        chat = Chat(key, record.get("prompt"), tuple(turns))
        text = "\n".join([chat.prompt or "", *turns])
        if turns and key not in REJECTED and not UNWANTED.search(text):
            yield chat


def select(chats: Iterable[Chat]) -> list[Chat]:
    """Take each bin's share in the order of the hashed identifiers, so that it looks random."""
    pool = sorted(chats, key=lambda chat: chat.key)
    chosen: list[Chat] = []
    for low, high, count in BINS:
        chosen += [chat for chat in pool if low <= chat.words < high][:count]
    # By another hash than the one that chose them: each split then has every length.
    return sorted(chosen, key=lambda chat: hashlib.sha256(chat.key.encode()).digest())


def _turns(groups: list[list[dict[str, str]]]) -> list[str]:
    """Join what one person sent in a row into one turn, a line a message."""
    turns: list[tuple[str, str]] = []
    for message in (message for group in groups for message in group):
        sender, text = message["sender"], message["text"].strip()
        if text and turns and turns[-1][0] == sender:
            turns[-1] = (sender, f"{turns[-1][1]}\n{text}")
        elif text:
            turns.append((sender, text))
    return [text for _, text in turns]


def _trim(turns: list[str]) -> list[str]:
    """End the chat with an answer, and before it grows too long."""
    words = 0
    for index, turn in enumerate(turns):
        words += len(turn.split())
        if words > MAX_WORDS:
            turns = turns[:index]
            break
    return turns[: len(turns) // 2 * 2]


if __name__ == "__main__":
    main()
