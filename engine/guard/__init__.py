"""Watches over the machine's memory while a run trains: pure policy, no I/O."""

from __future__ import annotations

from engine.guard.actions import (
    EXIT_CODE,
    Abort,
    Action,
    Halve,
    Pause,
    Reduction,
    Resume,
    Tighten,
    Warn,
    next_reduction,
)
from engine.guard.blame import Fault, Growth
from engine.guard.facts import GuardSettings, Phase, TrainingFacts
from engine.guard.machine import Guard, already_short
from engine.guard.pace import StepNorms
from engine.guard.pulse import Pulse

__all__ = [
    "EXIT_CODE",
    "Abort",
    "Action",
    "Fault",
    "Growth",
    "Guard",
    "GuardSettings",
    "Halve",
    "Pause",
    "Phase",
    "Pulse",
    "Reduction",
    "Resume",
    "StepNorms",
    "Tighten",
    "TrainingFacts",
    "Warn",
    "already_short",
    "next_reduction",
]
