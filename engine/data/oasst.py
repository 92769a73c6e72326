"""Builds conversations from OpenAssistant's message trees, given as one flat row a message.

A conversation is one path through a tree: at every branch it follows the reply that people ranked
best (rank 0), and where none was ranked the one with the longest conversation below it. The tables
are described on the hub: https://huggingface.co/datasets/OpenAssistant/oasst1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.data.convert import kind_of
from engine.data.formats import Problem, Row

if TYPE_CHECKING:
    from pathlib import Path

_ROLES = {"prompter": "user", "assistant": "assistant", "system": "system"}
_HINT = (
    "An OpenAssistant row has a message_id, a parent_id (null for the first), a role and a text."
)


@dataclass(slots=True)
class _Node:
    """A message and what was replied to it."""

    path: Path
    line: int
    role: str
    text: str
    parent: str | None
    rank: float
    replies: list[_Node] = field(default_factory=list["_Node"])
    depth: int = 1
    """Messages on the longest way down, this one included."""


class Forest:
    """Takes messages in any order and gives the best conversation of every tree."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self.messages = 0
        """Messages taken."""

    def add(self, row: dict[str, object], path: Path, line: int) -> Problem | None:
        """Take one message; a deleted one is passed over with all replies to it."""
        for key in ("message_id", "role", "text"):
            if not isinstance(row[key], str):
                message = f"'{key}' must be a string, not {kind_of(row[key])}."
                return Problem(path, line, message, _HINT, can_drop=True)
        role, parent, rank = str(row["role"]), row["parent_id"], row.get("rank")
        if role not in _ROLES:
            message = f"the role '{role}' is unknown."
            hint = f"Roles are {', '.join(_ROLES)}."
            return Problem(path, line, message, hint, can_drop=True)
        if parent is not None and not isinstance(parent, str):
            message = f"'parent_id' must be a string or null, not {kind_of(parent)}."
            return Problem(path, line, message, _HINT, can_drop=True)
        self.messages += 1
        # Tables without a rank may say so with a number that is none.
        if not isinstance(rank, int | float) or math.isnan(rank):
            rank = math.inf
        if not row.get("deleted"):
            self._nodes[str(row["message_id"])] = _Node(
                path, line, role, str(row["text"]), parent, float(rank)
            )
        return None

    def grow(self) -> list[Row | Problem]:
        """Return every tree's best conversation, or why it has none, in the order of the roots."""
        roots: list[_Node] = []
        for node in self._nodes.values():
            if node.parent is None:
                roots.append(node)
            elif node.parent in self._nodes:
                self._nodes[node.parent].replies.append(node)
        for root in roots:
            _measure(root)
        return [_conversation(root) for root in roots]


def _measure(root: _Node) -> None:
    """Note every depth below a root, without recursion: trees may be deep."""
    order = [root]
    for node in order:
        order.extend(node.replies)
    for node in reversed(order):
        node.depth = 1 + max((reply.depth for reply in node.replies), default=0)


def _conversation(root: _Node) -> Row | Problem:
    """The best path down from a root, up to its last answer."""
    way = [root]
    while way[-1].replies:
        way.append(min(way[-1].replies, key=lambda reply: (reply.rank, -reply.depth)))
    while way and way[-1].role != "assistant":
        way.pop()
    turns = tuple({"role": _ROLES[node.role], "content": node.text} for node in way)
    if not turns:
        message = "nobody answered the message that begins the tree."
        return Problem(root.path, root.line, message, "Delete the tree.", can_drop=True)
    return Row("oasst", root.path, root.line, turns)
