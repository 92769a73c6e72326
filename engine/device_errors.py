"""Recognises what MLX raises when the device gives up, and says what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import DeviceError, LoraTuiError, RunError


class _Remedy(NamedTuple):
    """What one kind of error means."""

    marks: tuple[str, ...]
    """Any of these in the error's text tells it."""
    message: str
    hint: str
    spoils_memory: bool = True
    """Whether arrays may hold garbage afterwards."""


_SMALLER = "Set micro_batch_size: 1, or a smaller tail_chunk or max_seq_length."
_REMEDIES = (
    _Remedy(
        ("ErrorImpactingInteractivity", "Impacting Interactivity"),
        "macOS ended a step on the GPU, because the lit display has to stay smooth.",
        "Let the display sleep while it trains (pmset displaysleepnow; no caffeinate -d), or make "
        "steps shorter: micro_batch_size: 1. If it comes back, start with "
        "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1 in the environment.",
    ),
    _Remedy(
        ("CallbackErrorTimeout", "GPU Timeout"),
        "The GPU was given up after some seconds of work without an end.",
        f"{_SMALLER} Or start with MLX_MAX_OPS_PER_BUFFER=10 in the environment.",
    ),
    _Remedy(
        ("CallbackErrorOutOfMemory", "Insufficient Memory"),
        "The GPU ran out of memory in the middle of a step.",
        f"Close other programs. {_SMALLER} Or take a quantised or smaller model.",
    ),
    _Remedy(
        ("[METAL]", "Command buffer execution failed"),
        "The GPU failed in the middle of a step.",
        "Resume from the last checkpoint. If it comes back, restart the machine.",
    ),
    _Remedy(
        ("Resource limit (",),
        "MLX holds more separate buffers than the GPU's driver allows.",
        "Resume in a new process. If it comes back, lower max_seq_length: fewer widths are used.",
        spoils_memory=False,
    ),
    _Remedy(
        ("maximum allowed buffer size", "Unable to allocate", "[malloc_or_wait]"),
        "One array was larger than this machine can give.",
        _SMALLER,
        spoils_memory=False,
    ),
)


def device_error(text: str) -> LoraTuiError | None:
    """Return the error that a person can act on for an exception's text; None for any other.

    A ``DeviceError`` says that what is in memory may be garbage, so that nothing of it may be
    saved: the run goes on from the last checkpoint or not at all.
    Source: MLX, mlx/backend/metal/device.cpp and allocator.cpp; IOKit's command buffer errors.
    """
    for remedy in _REMEDIES:
        if any(mark in text for mark in remedy.marks):
            kind = DeviceError if remedy.spoils_memory else RunError
            safe = " Nothing saved before is lost." if remedy.spoils_memory else ""
            return kind(remedy.message, f"{remedy.hint}{safe}")
    return None
