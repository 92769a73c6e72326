"""Steers and watches a run from other processes: JSON lines over a Unix socket in its folder.

Who connects writes one object a line, ``{"do": "pause"}``, and reads one a line: an answer,
``{"reply": "pause"}`` or ``{"error": "…"}``, with the ``id`` of the question if it had one; and
once it asked to ``subscribe``, the journal's lines from there on. Those begin with ``event``.
"""

from __future__ import annotations

from engine.control.client import ControlClient
from engine.control.feed import Feed
from engine.control.server import ControlServer, Steered
from engine.control.words import Command, Verb, parse_command

__all__ = ["Command", "ControlClient", "ControlServer", "Feed", "Steered", "Verb", "parse_command"]
