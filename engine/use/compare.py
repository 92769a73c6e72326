"""Puts checkpoints and runs beside each other: settings, curves, losses, answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from engine import events as ev
from engine.conversation import Sampling
from engine.data.rows import Features, Reading, read_data
from engine.errors import InputError
from engine.journal import read_outline
from engine.prepare import eager_on_cpu
from engine.reply import reply
from engine.sample import prompts_of
from engine.score import is_surely_lower
from engine.use.chosen import base_files, other_base
from engine.use.evaluate import measure
from engine.use.rows import Measured, find_rows
from engine.use.wardrobe import Wardrobe
from engine.use.worker import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.sample import Prompt
    from engine.score import Score
    from engine.use.chosen import Chosen

QUIET = frozenset({"name", "adapter_path", "config", "report_to", "project_name", "sample_prompts"})
"""Settings that change nothing about what was trained."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those compared."""

    label: str
    base: str
    settings: dict[str, Any]
    """By name, sections with a dot."""
    curve: tuple[tuple[int, float], ...]
    """Validation losses of its run by iteration, as the run measured them."""
    scores: dict[str, Score] = field(default_factory=dict[str, "Score"])
    """By ``validation rows`` and so on, all on the same rows."""
    answers: dict[str, str] = field(default_factory=dict[str, str])
    """By prompt."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out."""

    contenders: tuple[Contender, ...]
    data: str
    differing: dict[str, list[Any]]
    """Settings that are not the same for all, with their values in order."""
    judged_by: str
    """The rows that decide."""
    best: str
    is_sure: bool
    """Whether it is better than the next with 95 % confidence."""


def compare(
    several: Sequence[Chosen],
    should_stop: Callable[[], bool],
    *,
    data: str | None = None,
    limit: int = -1,
    max_tokens: int = 48,
) -> Iterator[Note | Comparison]:
    """Measure all on the same rows, let all answer the same prompts, and pick the best.

    Args:
        several: two or more.
        should_stop: asked between layers and tokens.
        data: other rows than the first one's.
        limit: the most rows of each part; -1 for all.
        max_tokens: the longest answer.

    Raises:
        InputError: when base, adapters and data do not fit together.
    """
    if len(several) < 2:
        raise InputError("There is nothing to compare with.", "Name two or more: RUN@500 RUN@1000.")
    parts = _parts(several[0], data)
    prompts = _prompts(several[0], parts)
    done: dict[str, Contender] = {c.label: _contender(c) for c in several}
    bases = {c.config.model for c in several}
    if len(bases) > 1:
        yield Note(
            "They have different bases: losses per token compare only where tokens are the same.",
            is_warning=True,
        )
    with eager_on_cpu():
        # One base at a time: they may not fit together.
        for base in sorted(bases):
            own = [c for c in several if c.config.model == base]
            yield Note(f"loading {base}")
            wardrobe = Wardrobe.load(own[0].config, base_files(own[0]))
            for chosen in own:
                contender = done[chosen.label]
                yield from _try_on(
                    wardrobe, chosen, several[0], parts, contender, should_stop, limit
                )
                if should_stop():
                    return
                for prompt in prompts:
                    contender.answers[prompt.shown] = _answer(
                        wardrobe, prompt, max_tokens, should_stop
                    )
            del wardrobe
    yield _judged(tuple(done[c.label] for c in several), parts)


def _try_on(
    wardrobe: Wardrobe,
    chosen: Chosen,
    first: Chosen,
    parts: Sequence[Measured],
    contender: Contender,
    should_stop: Callable[[], bool],
    limit: int,
) -> Iterator[Note]:
    """Wear an adapter and measure it on all parts, each as the first one was: the same targets."""
    if wardrobe.files and (warning := other_base(chosen, wardrobe.files)):
        yield Note(warning, is_warning=True)
    wardrobe.put_on(chosen)
    like = _like(chosen, first)
    for part in parts:
        found = yield from measure(wardrobe, like, part, chosen.label, should_stop, limit)
        if found is not None:
            contender.scores[part.part] = found.score


def _like(chosen: Chosen, first: Chosen) -> Chosen:
    """Return an adapter with the settings that decide what of a row is measured."""
    same = ("mask_prompt", "max_seq_length")
    update = {name: getattr(first.config, name) for name in same}
    return replace(chosen, config=chosen.config.model_copy(update=update))


def _parts(first: Chosen, data: str | None) -> list[Measured]:
    if data:
        return [find_rows(first.config, data)]
    config = first.config.model_copy(update={"test": True})
    rows = read_data(config.data, Features.of(config), 1, Reading.of(config))
    found = {"validation rows": rows.valid, "test rows": rows.test}
    parts = [Measured(some, name, config.data) for name, some in found.items() if some]
    return parts or [find_rows(first.config)]


def _prompts(first: Chosen, parts: Sequence[Measured]) -> tuple[Prompt, ...]:
    return prompts_of(first.config.model_copy(update={"sample_rows": 2}), parts[0].rows)


def _contender(chosen: Chosen) -> Contender:
    curve: tuple[tuple[int, float], ...] = ()
    if chosen.directory is not None:
        events = read_outline(chosen.directory.journal_file)
        found = {e.iteration: e.val_loss for e in events if isinstance(e, ev.Evaluated)}
        curve = tuple(sorted(found.items()))
    settings = _flat(chosen.config.model_dump(mode="json"))
    return Contender(chosen.label, chosen.config.model, settings, curve)


def _answer(
    wardrobe: Wardrobe, prompt: Prompt, max_tokens: int, should_stop: Callable[[], bool]
) -> str:
    pieces = reply(
        wardrobe.model,
        wardrobe.tokenizer,
        prompt.tokens(wardrobe.tokenizer),
        Sampling(max_tokens),
        should_stop,
        max_positions=wardrobe.max_positions,
    )
    return "".join(pieces).strip()


def _judged(contenders: tuple[Contender, ...], parts: Sequence[Measured]) -> Comparison:
    part = parts[0].part
    ranked = sorted(contenders, key=lambda c: c.scores[part].loss)
    first, second = ranked[0].scores[part], ranked[1].scores[part]
    every = dict.fromkeys(key for c in contenders for key in c.settings)
    values = {key: [c.settings.get(key) for c in contenders] for key in every}
    return Comparison(
        contenders=contenders,
        data=parts[0].data,
        differing={
            key: several
            for key, several in values.items()
            if key not in QUIET and any(value != several[0] for value in several)
        },
        judged_by=part,
        best=ranked[0].label,
        is_sure=is_surely_lower(first, second),
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
