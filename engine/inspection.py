"""Reads and tokenises a run's data as the run would, without loading a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine.data.preflight import inspect
from engine.errors import ModelError
from engine.hub import is_cached
from engine.model_files import find_model, is_local
from engine.runs import token_cache

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.config import RunConfig
    from engine.data.preflight import Inspected


def inspect_run(config: RunConfig) -> Generator[tuple[int, int], None, Inspected]:
    """Inspect a run's data with its model's tokenizer; the run then finds the tokens in the cache.

    Yields how many training rows are encoded, and of how many.

    Raises:
        InputError: what a run with these settings would raise, or when the model is not here.
    """
    if not is_local(config.model) and not is_cached(config.model):
        raise ModelError(
            f"{config.model} is not on this machine, and its tokenizer is what tells tokens.",
            "Leave out --preflight, or give a model's folder with --model.",
        )
    return (yield from inspect(config, _tokenizer(config), token_cache()))


def _tokenizer(config: RunConfig) -> Any:
    # Imported here: a plan without a look at the tokens does without MLX.
    from mlx_lm import utils

    load: Any = cast("Any", utils).load_tokenizer
    return load(find_model(config).path, {"trust_remote_code": config.trust_remote_code})
