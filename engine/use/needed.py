"""What using a checkpoint takes of memory, told before anything is loaded. No MLX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.answers import answer_shape
from engine.machine import guessed_machine, known_machine
from engine.model_shape import find_shape
from engine.planning import weights_dtype
from engine.use.chosen import base_files

if TYPE_CHECKING:
    from engine.answers import AnswerShape
    from engine.shapes import ModelShape
    from engine.use.chosen import Chosen


def loaded_bytes(chosen: Chosen) -> int:
    """Return what base and adapter take when they are loaded.

    Raises:
        ModelError: when the base is gone.
    """
    return _base(chosen)[0].base_bytes + chosen.file.stat().st_size


def answers_of(chosen: Chosen) -> AnswerShape:
    """Return what decides the memory that answers of it take.

    Raises:
        ModelError: when the base is gone.
    """
    model, is_cpu = _base(chosen)
    return answer_shape(model, is_eager=is_cpu)


def _base(chosen: Chosen) -> tuple[ModelShape, bool]:
    machine = known_machine() or guessed_machine()
    dtype = weights_dtype(chosen.config, machine)
    return find_shape(str(base_files(chosen).path), dtype), machine.is_cpu
