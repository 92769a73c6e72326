"""A run that follows a script: the same events every time, as far as the test says, no threads."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import TYPE_CHECKING

from engine import events as ev
from engine.config import RunConfig
from engine.conversation import Answered, Piece, Ready
from engine.use.chosen import Chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.conversation import Conversation, Ending, Sampling, Side, TalkEvent
    from tui.chat import TalkControls

START = 1_790_000_000.0
"""A fixed moment, so that clocks on pictures stay the same."""
GB, MB = 10**9, 10**6
PROMPT = "What is the capital of France?"
STAGES: tuple[tuple[ev.Stage, str], ...] = (
    ("libraries", "loading the libraries"),
    ("model", "loading the model"),
    ("data", "reading the data"),
    ("check", "checking the first step"),
)


class ScriptedRun:
    """Satisfies ``RunControls``; ``advance`` trains, ``load`` goes through the stages before."""

    def __init__(
        self, iterations: int = 15_000, step_seconds: float = 2.1, name: str = "maximum"
    ) -> None:
        self.edition = 0
        self.log: list[ev.Event] = []
        self.calls: list[str] = []
        """What was asked, in order."""
        self.time = START
        self.iterations = iterations
        self.name = name
        self.iteration = 0
        self._step_seconds = step_seconds
        self._random = random.Random(7)
        self._is_started = False
        self._paused_at = 0.0
        self._best = math.inf
        self._val_loss: float | None = None
        self._tokens = 0
        self.pending: list[str] = []
        """What was asked and not answered yet."""
        self.is_standing_still = False
        self.talk = ScriptedTalk()
        """Whom the chat talks to."""

    @property
    def events(self) -> list[ev.Event]:
        """Everything said so far."""
        return self.log

    path = "/runs/scripted"
    outlives_app = False
    can_detach = True
    refusal = ""

    def hang_up(self) -> None:
        """The script stops when nobody watches."""

    def leave(self) -> None:
        """Nobody looks any more."""

    def detach(self) -> None:
        """End here."""
        self._request("detach")

    @property
    def exit_code(self) -> int:
        """What the end said."""
        last = self.log[-1] if self.log else None
        return last.exit_code if isinstance(last, ev.Ended) else 0

    def now(self) -> float:
        """The script's own clock."""
        return self.time

    def start(self) -> None:
        """Begin."""
        self.calls.append("start")
        self._is_started = True

    def pause(self) -> None:
        """Stand still."""
        self._request("pause")

    def resume(self) -> None:
        """Go on."""
        self._request("resume")

    def checkpoint(self) -> None:
        """Save."""
        self._request("checkpoint")

    def evaluate(self) -> None:
        """Measure."""
        self._request("evaluate")

    def sample(self) -> None:
        """Answer the prompts."""
        self._request("sample")

    def set_policy(self, policy: ev.Policy) -> None:
        """Guard differently, at once."""
        self.calls.append(f"policy: {policy}")
        self._say(ev.PolicyChanged(time=self.time, policy=policy))

    def stop(self, reason: str = "asked") -> None:
        """End."""
        self._request(f"stop: {reason}")

    def open_talk(self, iteration: int | None) -> TalkControls:
        """Somebody scripted to talk to."""
        self.calls.append(f"talk: {iteration}")
        return self.talk

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._is_started and not (self.log and isinstance(self.log[-1], ev.Ended))

    def load(self, stages: int = len(STAGES)) -> None:
        """Say what is being loaded, up to so many stages."""
        while len(self.log) < stages:
            self.load_next()

    def load_next(self) -> None:
        """Say the next of what is being loaded."""
        stage, message = STAGES[len(self.log)]
        self.time += 1.3
        total = 28 if stage == "model" else 0
        self._say(ev.Progress(
            time=self.time, stage=stage, message=message, done=12 if total else 0, total=total
        ))  # fmt: skip

    def begin(self) -> None:
        """Load, and be ready for the first step."""
        self.load()
        self.be_ready()

    def be_ready(self) -> None:
        """Say what the run will do; measure, and let the base model answer."""
        self.time += 2
        self._say(started(self.time, self.name, self.iterations))
        self._host()
        self._evaluate()
        self._say(self._sampled("The capital of France is a city in Europe.", base=True))

    def advance(self, steps: int, *, evaluate_every: int = 500, save_every: int = 500) -> None:
        """Train so many steps, with evaluations, checkpoints and samples of the machine."""
        for _ in range(steps):
            self._step()
            if self.iteration % evaluate_every == 0:
                self._evaluate()
            if self.iteration % save_every == 0:
                self._save("best" if self._val_loss == self._best else "scheduled")
            if self.iteration % 20 == 0:
                self._host()

    def answer(self) -> None:
        """Do what was asked, as a trainer does between two steps."""
        pending, self.pending = self.pending, []
        for request in pending:
            self.time += 0.4
            self._answer(request)

    def shrink(self) -> None:
        """Let the guard act."""
        why = "memory pressure was yellow for 20 s"
        self._host("yellow")
        self._say(ev.Guard(time=self.time, action="shrink", why=why, iteration=self.iteration))

    def break_step(self) -> None:
        """Train a step whose loss is not a number."""
        self._step(loss=math.nan)

    def finish(self) -> None:
        """Reach the end as planned."""
        self._evaluate()
        self._save("final")
        self.end("completed", "all iterations were trained")

    def end(self, status: ev.EndStatus, reason: str, exit_code: int = 0, hint: str = "") -> None:
        """Say the last word."""
        self._say(ev.Ended(
            time=self.time, status=status, iteration=self.iteration, reason=reason,
            exit_code=exit_code, hint=hint,
        ))  # fmt: skip

    def warn(self, message: str) -> None:
        """Say something that stops nothing."""
        self._say(ev.Warned(time=self.time, message=message))

    def _request(self, what: str) -> None:
        self.calls.append(what)
        self.pending.append(what)

    def _answer(self, request: str) -> None:
        match request.partition(":")[0]:
            case "pause":
                self._paused_at = self.time
                self.is_standing_still = True
                self._say(ev.Paused(time=self.time, iteration=self.iteration))
            case "resume":
                spent = self.time - self._paused_at
                self.is_standing_still = False
                self._say(ev.Resumed(
                    time=self.time, iteration=self.iteration, paused_seconds=spent
                ))  # fmt: skip
            case "checkpoint":
                self._save("requested")
            case "evaluate":
                self._evaluate()
            case "sample":
                self._say(self._sampled("The capital of France is Paris."))
            case _:
                self._save("stop")
                self.end("stopped", "as asked")

    def _say(self, event: ev.Event) -> None:
        self.log.append(event)

    def _curve(self) -> float:
        share = self.iteration / self.iterations
        return 0.95 + 1.9 * math.exp(-9 * share) + 0.25 * (1 - share)

    def _rate(self) -> float:
        """Warm up, then come down like a cosine."""
        share = self.iteration / self.iterations
        return 2e-4 * min(1.0, 50 * share) * (1 + math.cos(math.pi * share)) / 2

    def _norm(self) -> float:
        return 0.8 + 0.3 * math.sin(self.iteration) + math.exp(-self.iteration / 400)

    def _step(self, loss: float | None = None) -> None:
        self.iteration += 1
        draw = self._random
        width = draw.choice((512, 1024, 1536, 2048))
        tokens = round(4 * width * draw.uniform(0.55, 0.95))
        seconds = self._step_seconds * width / 1280 * draw.uniform(0.96, 1.04)
        self.time += seconds
        self._tokens += tokens
        if loss is None:
            loss = self._curve() * math.exp(draw.gauss(0, 0.11))
        left = (self.iterations - self.iteration) * self._step_seconds
        is_update = self.iteration % 32 == 0
        self._say(ev.Step(
            time=self.time, iteration=self.iteration, loss=loss, tokens=tokens,
            learning_rate=self._rate(), seconds=seconds,
            tokens_per_second=tokens / seconds, iterations_per_second=1 / seconds,
            trained_tokens=self._tokens, eta_seconds=left, eta_low_seconds=0.93 * left,
            eta_high_seconds=1.07 * left, gradient_norm=self._norm() if is_update else None,
            updates=self.iteration // 32, width=width, micro_batch=1,
            epoch=self.iteration * 4 / 812,
            memory=ev.Memory(
                active=round(3.71 * GB), peak=round((4.6 + 0.53 * width / 2048) * GB),
                cache=round(0.21 * GB), footprint=round(5.6 * GB),
            ),
        ))  # fmt: skip

    def _evaluate(self) -> None:
        self.time += 9
        self._val_loss = self._curve() + 0.11 + 0.02 * self._random.random()
        best = self._val_loss < self._best
        self._best = min(self._best, self._val_loss)
        self._say(ev.Evaluated(
            time=self.time, iteration=self.iteration, val_loss=self._val_loss, best=best,
            seconds=9.0, tokens=40_000,
        ))  # fmt: skip

    def _save(self, reason: ev.CheckpointReason) -> None:
        self.time += 0.6
        self._say(ev.CheckpointSaved(
            time=self.time, iteration=self.iteration, reason=reason, seconds=0.6,
            path=f"adapters/{self.iteration:07}_adapters.safetensors", bytes=148 * MB,
            val_loss=self._val_loss,
        ))  # fmt: skip

    def _host(self, pressure: ev.Pressure = "green") -> None:
        self._say(ev.Host(
            time=self.time, pressure=pressure, swap_used=200 * MB, swap_growth=0,
            thermal="nominal", on_battery=False, battery_percent=100.0,
            to_yellow=0.38 if pressure == "green" else 0.0, available=round(2.1 * GB),
            memory_total=round(8.6 * GB), footprint=round(5.6 * GB), disk_free=round(91.2 * GB),
            run_growth=0, others_growth=0 if pressure == "green" else round(1.4 * GB),
            swap_out_bytes_per_second=0.0,
        ))  # fmt: skip

    def _sampled(self, text: str, *, base: bool = False) -> ev.Sampled:
        return ev.Sampled(
            time=self.time, iteration=self.iteration, prompt=PROMPT, text=text, base=base, seconds=1
        )


class ScriptedTalk:
    """Satisfies ``TalkControls``; says what a test lets it say."""

    needed_bytes = 3 * GB

    def __init__(self, checkpoints: int = 2) -> None:
        self.choices = [
            Chosen(
                label=f"maximum@{500 * i}", folder=Path(), file=Path(), iteration=500 * i,
                config=RunConfig(model="Qwen/Qwen2.5-1.5B-Instruct"), directory=None,
            )
            for i in range(1, checkpoints + 1)
        ]  # fmt: skip
        self.chosen = self.choices[-1]
        self.events: list[TalkEvent] = []
        self.calls: list[str] = []
        self.asked: list[tuple[tuple[Side, ...], Sampling]] = []

    def start(self) -> None:
        """Be there at once."""
        self.calls.append("start")
        self.events.append(Ready(self.chosen.label, has_base=True))

    def ask(self, conversation: Conversation, sides: Sequence[Side], sampling: Sampling) -> None:
        """Write down what was asked."""
        said = conversation.turns["adapter"][-1]["content"]
        self.calls.append(f"ask: {said}")
        self.asked.append((tuple(sides), sampling))

    def answer(self, side: Side, *pieces: str, ending: Ending | None = "end") -> None:
        """Answer piece by piece."""
        self.events += [Piece(side, piece) for piece in pieces]
        if ending:
            self.events.append(Answered(side, ending, len(pieces), 12.5))

    def switch(self, chosen: Chosen) -> None:
        """Be another checkpoint."""
        self.chosen = chosen
        self.calls.append(f"switch: {chosen.label}")
        self.events.append(Ready(chosen.label, has_base=True))

    def stop(self) -> None:
        """Stop."""
        self.calls.append("stop")

    def close(self) -> None:
        """End."""
        self.calls.append("close")


def started(time: float, name: str, iterations: int) -> ev.Started:
    """What a run of the real model says when it is ready."""
    plan = ev.MemoryPlan(
        base=round(3.09 * GB), adapters=round(0.15 * GB), gradients=round(0.15 * GB),
        optimizer=round(0.30 * GB), activations=round(1.0 * GB), tail=round(0.3 * GB),
        data=round(0.05 * GB), other=round(0.14 * GB),
    )  # fmt: skip
    return ev.Started(
        time=time, name=name, run_dir="/runs/2026-09-21-maximum",
        model="Qwen/Qwen2.5-1.5B-Instruct", data="mlabonne/guanaco-llama2-1k",
        iterations=iterations, updates=iterations // 32, epochs=iterations * 4 / 812,
        tokens=iterations * 3840, train_rows=812, valid_rows=94, batch_size=4,
        grad_accumulation_steps=32, micro_batch=1, widths=(512, 1024, 1536, 2048),
        trainable_parameters=36_929_536, total_parameters=1_580_643_840, step="layers",
        step_reason="layer by layer", device="Apple M2", budget=round(8.0 * GB), plan=plan,
        config={"steps_per_eval": 500, "save_every": 500},
    )  # fmt: skip


def probed(time: float) -> ev.Probed:
    """What its widest step took before the first: a little more than was planned."""
    plan = started(time, "", 1).plan
    return ev.Probed(
        time=time, width=2048, rows=4, planned=plan.peak, peak=round(5.6 * GB), seconds=2.4,
        micro_batch=1, planned_micro_batch=1, plan=plan,
        eta_seconds=36_000.0, eta_low_seconds=27_000.0, eta_high_seconds=45_000.0,
    )  # fmt: skip


def trained(steps: int, iterations: int = 15_000) -> ScriptedRun:
    """A run that got so far."""
    run = ScriptedRun(iterations)
    run.begin()
    run.advance(steps)
    return run
