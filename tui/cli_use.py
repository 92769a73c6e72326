"""Commands that use what was trained: answer, measure, fuse. Light until one of them runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tui.beside import may_load, sure_option

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from engine.conversation import Message, Reply
    from engine.score import Score
    from engine.use.evaluate import Done
    from engine.use.worker import Note

T = TypeVar("T")
INTERRUPTED, BROKEN_PIPE = 130, 141

run_argument = click.argument("run", metavar="RUN[@ITERATION]")
model_option = click.option(
    "--model", metavar="MODEL", help="Another base than the one it was trained on, or where it is."
)


@click.command()
@run_argument
@click.argument("prompt", required=False)
@model_option
@click.option("--base", "is_base", is_flag=True, help="Let the base model answer, unchanged.")
@click.option("--system", metavar="TEXT", help="What the system turn says.")
@click.option(
    "--temperature", "--temp", type=click.FloatRange(0, 10), default=0.0, show_default=True,
    help="0 takes the likeliest token each time.",
)  # fmt: skip
@click.option(
    "--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="Share of the probability that tokens are drawn from.",
)  # fmt: skip
@click.option(
    "--max-tokens", "-m", type=click.IntRange(1), default=256, show_default=True,
    help="The longest answer.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--ignore-chat-template", "is_raw", is_flag=True, help="Go on with the prompt as it is."
)
@sure_option
def generate(
    run: str,
    prompt: str | None,
    model: str | None,
    is_base: bool,
    system: str | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    is_raw: bool,
    is_sure: bool,
) -> int:
    """Answer a prompt, given here or on standard input, with what a run trained.

    The answer goes to standard output as it comes. RUN may also be a folder that mlx_lm.lora wrote.
    """
    from engine.use.chosen import choose

    text = _prompt(prompt)
    chosen = choose(run, model)
    turns = [("system", system), ("user", text)] if system else [("user", text)]
    messages: list[Message] = [{"role": role, "content": content or ""} for role, content in turns]
    if not may_load([chosen], is_sure=is_sure):
        return 0

    def job(should_stop: Callable[[], bool]) -> Iterator[Note | str | Reply]:
        from engine.conversation import Sampling
        from engine.use.generate import generate as answer

        sampling = Sampling(max_tokens, temperature, top_p, seed)
        return answer(chosen, messages, sampling, should_stop, is_base=is_base, is_raw=is_raw)

    try:
        for item in working(job):
            if isinstance(item, str):
                sys.stdout.write(item)
                sys.stdout.flush()
            else:
                sys.stdout.write("\n")
                say(f"{item.tokens:,} tokens, {item.tokens_per_second:.1f} a second.")
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        return _stopped("Stopped in the middle of the answer.")
    except BrokenPipeError:
        # Python would complain once more when it closes the stream.
        sys.stdout = None
        return BROKEN_PIPE
    return 0


@click.command()
@run_argument
@model_option
@click.option(
    "--data", metavar="DATA", help="Other rows than the run's own: a folder, a file, a hub name."
)
@click.option(
    "--split", "part", type=click.Choice(["test", "valid", "train"]),
    help="Which rows; by default test rows where there are any, else validation rows.",
)  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(1), help="The most rows to measure.")
@click.option("--base", "is_base", is_flag=True, help="Measure the base model, unchanged.")
@sure_option
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def evaluate(
    run: str,
    model: str | None,
    data: str | None,
    part: Literal["test", "valid", "train"] | None,
    limit: int | None,
    is_base: bool,
    is_sure: bool,
    is_json: bool,
) -> int:
    """Measure loss and perplexity on rows that were held out."""
    from engine.use.chosen import choose

    chosen = choose(run, model)
    if not may_load([chosen], is_sure=is_sure):
        return 0

    def job(should_stop: Callable[[], bool]) -> Iterator[Note | Done]:
        from engine.use.evaluate import evaluate as measure

        return measure(
            chosen, should_stop, data=data, part=part, limit=limit or -1, is_base=is_base
        )

    try:
        for done in working(job):
            if is_json:
                click.echo(json.dumps(score_as_json(done), ensure_ascii=False, indent=2))
            else:
                click.echo(score_in_words(done))
    except KeyboardInterrupt:
        return _stopped("Stopped; nothing was measured.")
    return 0


@click.command()
@run_argument
@model_option
@click.option(
    "--save-path", type=click.Path(path_type=Path), help="The new folder; by default in the run's."
)
@click.option(
    "--dequantize", "--de-quantize", "is_dequantized", is_flag=True,
    help="Unpack a quantised base, so that fusing rounds less.",
)  # fmt: skip
@click.option("--export-gguf", "is_gguf", is_flag=True, help="Write GGUF too, for llama.cpp.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Type of the weights; by default the base's own.",
)  # fmt: skip
@sure_option
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def fuse(
    run: str,
    model: str | None,
    save_path: Path | None,
    is_dequantized: bool,
    is_gguf: bool,
    dtype: str | None,
    is_sure: bool,
    is_json: bool,
) -> int:
    """Write base and adapter as one model that stands alone, and check that it is the same."""
    from engine.use.chosen import choose

    chosen = choose(run, model)
    name = "fused" if chosen.iteration is None else f"fused-{chosen.iteration}"
    folder = (save_path or chosen.folder.parent / name).expanduser().absolute()
    if not may_load([chosen], is_sure=is_sure):
        return 0

    def job(should_stop: Callable[[], bool]) -> Iterator[Any]:
        from engine.use.fuse import FuseOptions
        from engine.use.fuse import fuse as write

        options = FuseOptions(dequantize=is_dequantized, gguf=is_gguf, dtype=dtype)
        return write(chosen, folder, options, should_stop)

    from tui.words import size

    try:
        for fused in working(job):
            if is_json:
                values = {
                    "path": str(fused.path),
                    "bytes": fused.bytes,
                    "difference": fused.difference,
                    "tolerance": fused.tolerance,
                    "dtype": fused.dtype,
                }
                click.echo(json.dumps(values, indent=2))
                continue
            click.echo(str(fused.path))
            say(
                f"{size(fused.bytes)}. Loaded and compared: its logits differ from base and "
                f"adapter's by at most {_share(fused.difference)} of the largest."
                f"{_rounding(fused.dtype)} Try it:\n"
                f"  mlx_lm.generate --model {fused.path} --prompt Hello"
            )
    except KeyboardInterrupt:
        return _stopped("Stopped. Nothing was written.")
    return 0


def working(job: Callable[[Callable[[], bool]], Iterator[Note | T]]) -> Generator[T]:
    """Do a job on its own thread; says on stderr what goes on, and yields the rest."""
    from engine.use.worker import Work
    from tui.cli_run import quieten_libraries

    quieten_libraries()
    with _Teller() as teller:
        for item in Work(job):
            if not teller.takes(item):
                yield item  # pyright: ignore[reportReturnType]


def say(text: str) -> None:
    """Say something to the person, apart from the data."""
    click.echo(text, err=True)


def score_in_words(done: Done) -> str:
    """Say a measurement in a few lines."""
    from tui import words

    score = done.score
    lines = [
        f"{done.label}: loss {words.loss(score.loss)}, perplexity {score.perplexity:,.2f}",
        f"  on {score.rows:,} {done.part} of {done.data} ({score.tokens:,} tokens, "
        f"{words.significant(score.tokens_per_second)} a second)",
    ]
    if math.isfinite(score.loss_low):
        lines.insert(
            1,
            f"  with 95 % confidence between {words.loss(score.loss_low)} and "
            f"{words.loss(score.loss_high)} (perplexity {math.exp(score.loss_low):,.2f} to "
            f"{math.exp(score.loss_high):,.2f})",
        )
    return "\n".join(lines)


def score_as_json(done: Done) -> dict[str, Any]:
    """Return a measurement as JSON values."""
    named = {"label": done.label, "data": done.data, "split": done.part}
    return named | score_values(done.score)


def score_values(score: Score) -> dict[str, Any]:
    """Return what was measured as JSON values; null where a number is not known."""
    values = {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "loss_low": score.loss_low,
        "loss_high": score.loss_high,
        "tokens_per_second": score.tokens_per_second,
        "seconds": score.seconds,
    }
    plain = {key: value if math.isfinite(value) else None for key, value in values.items()}
    return plain | {"rows": score.rows, "tokens": score.tokens}


class _Teller:
    """Tells on stderr what goes on: a line each, or how far it is where there is a terminal."""

    def __init__(self) -> None:
        self._is_open = False
        self._said = ""

    def __enter__(self) -> _Teller:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def takes(self, item: object) -> bool:
        """Tell it if it is a note, and return whether it was."""
        message = getattr(item, "message", None)
        if message is None:
            self._end()
            return False
        note: Any = item
        if note.is_warning:
            self._end()
            say(f"Warning: {message}")
        elif note.total and sys.stderr.isatty():
            click.echo(f"\r{message} {note.done:,} / {note.total:,}\033[K", err=True, nl=False)
            self._is_open = True
        elif message != self._said:
            self._end()
            say(f"{message}…")
        self._said = message
        return True

    def _end(self) -> None:
        if self._is_open:
            say("")
            self._is_open = False


def _share(value: float) -> str:
    return "0.001 %" if value < 1e-5 else f"{100 * value:.2g} %"


def _rounding(dtype: str) -> str:
    """Say why it is not the same to the last digit; nothing where it nearly is."""
    if dtype == "float32":
        return ""
    return (
        f" {dtype} rounds that much, base and adapter's own logits too; --dtype float32 keeps it "
        "below 0.1 %."
    )


def _prompt(given: str | None) -> str:
    if given is None and sys.stdin.isatty():
        raise click.UsageError("Give a prompt, or put one on standard input.")
    text = sys.stdin.read() if given is None else given
    if not text.strip():
        raise click.UsageError("The prompt is empty.")
    return text.strip("\n")


def _stopped(words: str) -> int:
    say(words)
    return INTERRUPTED


COMMANDS = (generate, evaluate, fuse)
