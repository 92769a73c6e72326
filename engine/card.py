"""Writes the model card beside a run's adapters: what it is, how it was made, how to use it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from engine.checkpoint import LATEST
from engine.files import write_text
from engine.journal import read_journal
from engine.model_files import is_local
from engine.svg import curve_svg
from engine.view import RunView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engine import events as ev
    from engine.config import RunConfig
    from engine.runs import RunDirectory

CARD, CURVE = "README.md", "curve.svg"
SHOWN = (
    "fine_tune_type", "num_layers", "lora_parameters", "optimizer", "learning_rate", "lr_schedule",
    "batch_size", "grad_accumulation_steps", "iters", "max_seq_length", "mask_prompt",
    "max_grad_norm", "dtype", "seed",
)  # fmt: skip
"""Settings that a card lists: those that decide what was trained."""
MOST_SAMPLE_CHARACTERS = 600


def describe(directory: RunDirectory, config: RunConfig, events: Iterable[ev.Event] | None) -> None:
    """Describe what a run trained beside it; one that saved nothing has nothing to describe.

    Args:
        directory: the run's.
        config: its settings.
        events: all that happened; None reads the journal.
    """
    if not (directory.adapters / LATEST).is_file():
        return
    # A full disk keeps no run from ending well.
    with suppress(OSError):
        told = read_journal(directory.journal_file) if events is None else events
        write_card(directory.adapters, config, told)


def write_card(folder: Path, config: RunConfig, events: Iterable[ev.Event]) -> None:
    """Write the card and its curve into an adapters' folder.

    Args:
        folder: holds the adapters.
        config: the run's settings.
        events: all that happened, oldest first.

    Raises:
        OSError: when it cannot be written.
    """
    view = RunView()
    view.apply_all(events)
    points = [(e.iteration, e.val_loss) for e in view.evaluations if math.isfinite(e.val_loss)]
    losses = list(zip(view.steps.iteration, view.steps.loss, strict=True))
    write_text(folder / CURVE, curve_svg(losses, points))
    write_text(folder / CARD, card_text(config, view))


def card_text(config: RunConfig, view: RunView | None = None) -> str:
    """Return a model card in the form of the Hugging Face hub: YAML, then Markdown.

    Args:
        config: what was trained, and with what.
        view: how it went; None where only the adapters are known.
    """
    model, licence = public_name(config.model), licence_of(config.model)
    header: dict[str, Any] = {
        "base_model": model,
        "library_name": "mlx",
        "pipeline_tag": "text-generation",
        "license": licence or "unknown",
        "tags": ["mlx", "lora" if config.fine_tune_type != "full" else "fine-tuned"],
    }
    if not is_local(config.data) and "+" not in config.data:
        header["datasets"] = [config.data]
    if not is_local(config.model):
        header["base_model_relation"] = "adapter"
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {config.name or f'{Path(model).name} on {public_name(config.data)}'}",
        f"Adapters ({config.fine_tune_type}) for **{model}**, trained on "
        f"**{public_name(config.data)}** with lora-tui.",
        *(_results(view) if view else ()),
        _settings(config, view),
        *(_samples(view) if view else ()),
        _use(model),
        _licence(model, licence),
    ]
    return "\n\n".join(parts) + "\n"


def public_name(name: str) -> str:
    """Return a model's or data set's name without where it is on this machine."""
    return Path(name).name if is_local(name) else name


def licence_of(model: str) -> str:
    """Return the licence that a local base's own card names, or nothing."""
    path = Path(model).expanduser() / CARD
    try:
        text = path.read_text(encoding="utf-8")
        header: Any = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, IndexError):
        return ""
    found: Any = header.get("license") if isinstance(header, dict) else None  # pyright: ignore
    return found if isinstance(found, str) else ""


def _results(view: RunView) -> Iterator[str]:
    rows: list[Sequence[object]] = []
    if view.evaluations:
        first, last = view.evaluations[0], view.evaluations[-1]
        rows.append((f"validation, iteration {first.iteration:,}", *_loss(first.val_loss)))
        if view.best and view.best is not last:
            rows.append(
                (f"validation, best, at {view.best.iteration:,}", *_loss(view.best.val_loss))
            )
        rows.append((f"validation, iteration {last.iteration:,}", *_loss(last.val_loss)))
    if view.tested:
        rows.append((f"test, {view.tested.rows:,} rows", *_loss(view.tested.test_loss)))
    if rows:
        yield f"## Results\n\n{_table(('measured on', 'loss', 'perplexity'), rows)}"
        yield f"![Loss by iteration]({CURVE})"


def _settings(config: RunConfig, view: RunView | None) -> str:
    values = config.model_dump(mode="json", exclude_none=True)
    rows: list[Sequence[object]] = [
        (f"`{key}`", f"`{_plain(values[key])}`") for key in SHOWN if key in values
    ]
    if view and view.started:
        started = view.started
        rows.append(("iterations done", f"{view.iteration:,}"))
        rows.append(("trainable parameters", f"{started.trainable_parameters:,}"))
        rows.append(("training rows", f"{started.train_rows:,}"))
        rows += [(name, version) for name, version in started.versions.items()]
    return f"## Settings\n\n{_table(('setting', 'value'), rows)}"


def _samples(view: RunView) -> Iterator[str]:
    base = {s.prompt: s.text for s in view.samples if s.base}
    now = {s.prompt: s.text for s in view.samples if not s.base}
    if not now:
        return
    rows = [
        (_cell(prompt), _cell(base.get(prompt, "")), _cell(text)) for prompt, text in now.items()
    ]
    yield f"## Samples\n\n{_table(('prompt', 'base', 'adapter'), rows)}"


def _use(model: str) -> str:
    return f"""## How to use it

```sh
mlx_lm.generate --model {model} --adapter-path . --prompt "Hello"
```

```python
from mlx_lm import generate, load

model, tokenizer = load("{model}", adapter_path=".")
messages = [{{"role": "user", "content": "Hello"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
print(generate(model, tokenizer, prompt=prompt))
```"""


def _licence(model: str, licence: str) -> str:
    known = f"{model} is under `{licence}`." if licence else f"See the licence of {model}."
    return (
        f"## Licence\n\n{known} Adapters are made from it and from the data: check both licences "
        "before you share them, and set `license` above."
    )


def _loss(loss: float) -> tuple[str, str]:
    return f"{loss:.3f}", f"{math.exp(min(loss, 700.0)):,.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _plain(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("\n...")


def _cell(text: str) -> str:
    """Keep a text inside its cell of the table."""
    cut = text if len(text) <= MOST_SAMPLE_CHARACTERS else f"{text[:MOST_SAMPLE_CHARACTERS]}…"
    return cut.replace("|", "\\|").replace("\n", "<br>")
