"""A conversation with what was trained, beside the base, on one thread that has all of MLX.

Who shows it reads the append-only ``events`` by index, and asks. On a run that stands still in
this process the run's own thread and model do the work, and nothing is loaded twice.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from engine.conversation import Answered, Piece, Ready, Told
from engine.errors import InputError, LoraTuiError
from engine.lock import is_held
from engine.mlx_thread import begin_thread, end_thread
from engine.runs import summarise
from engine.use.chosen import base_files, choose, other_base, siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.conversation import Conversation, Message, Sampling, Side, TalkEvent
    from engine.events import MemoryPlan
    from engine.mailbox import Job
    from engine.use.chosen import Chosen
    from engine.use.wardrobe import Wardrobe

CHAT_TOKENS = 4096
"""Tokens of a conversation that its memory is reckoned with."""
END_SECONDS = 5.0
GIVEN_BACK = "The run has given its base weights back for now: go on with it, then pause it again."


class Talk:
    """One base, its adapters, and who talks to them."""

    def __init__(
        self,
        chosen: Chosen,
        lend: Callable[[Job], None] | None = None,
        plan: MemoryPlan | None = None,
    ) -> None:
        """Make it; nothing is loaded yet.

        Args:
            chosen: the adapter to begin with.
            lend: does a job with a standing run's own model; None loads the base.
            plan: that run's memory, which a talk with its model stays within.
        """
        self.chosen = chosen
        self.choices = siblings(chosen)
        """Checkpoints that can be switched to."""
        self._lend = lend
        self._plan = plan
        self._events: list[TalkEvent] = []
        self._stop = threading.Event()
        self._is_closed = threading.Event()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="talker", daemon=True)

    @property
    def events(self) -> Sequence[TalkEvent]:
        """Everything that happened so far; only ever appended to."""
        return self._events

    @property
    def needed_bytes(self) -> int:
        """What talking takes: a conversation's cache, and the weights where they are loaded.

        A run that lends its model keeps its own adapters beside those of the checkpoint, and what
        is taken stays within what its steps were planned with.

        Raises:
            ModelError: when the base is gone.
        """
        from engine.answers import held_bytes
        from engine.use.needed import answers_of, loaded_bytes

        answering = answers_of(self.chosen).needed_bytes(CHAT_TOKENS, CHAT_TOKENS // 8)
        if self._lend is None:
            return loaded_bytes(self.chosen) + answering
        needed = self.chosen.file.stat().st_size + answering
        if self._plan is None:
            return needed
        return min(needed, self._plan.peak - self._plan.data - held_bytes(self._plan))

    def start(self) -> None:
        """Begin to load, or to ask the run for its model."""
        if self._lend is None:
            self._thread.start()
        else:
            self._lend(self._guarded(self._greet))

    def ask(self, conversation: Conversation, sides: Sequence[Side], sampling: Sampling) -> None:
        """Let sides answer what was said, one after the other."""
        asked: dict[Side, list[Message]] = {side: list(conversation.turns[side]) for side in sides}
        self._stop.clear()

        def job(wardrobe: Wardrobe, should_stop: Callable[[], bool]) -> None:
            for side, messages in asked.items():
                if not (self._stop.is_set() or should_stop()):
                    self._answer(wardrobe, side, messages, sampling, should_stop)

        self._do(job)

    def switch(self, chosen: Chosen) -> None:
        """Talk to another checkpoint; the base stays where it is."""
        self.chosen = chosen
        self._do(self._greet)

    def stop(self) -> None:
        """End the answer in flight; what was said of it stays."""
        self._stop.set()

    def is_alive(self) -> bool:
        """Whether its thread still works, if it has one."""
        return self._thread.is_alive()

    def close(self, seconds: float = 0.0) -> None:
        """End, and give memory back; waits no longer than this for a token or a load."""
        self._stop.set()
        self._is_closed.set()
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _do(self, job: Callable[[Wardrobe, Callable[[], bool]], None]) -> None:
        if self._lend is None:
            self._jobs.put(self._guarded(job))
        else:
            self._lend(self._guarded(job))

    def _guarded(self, job: Callable[[Wardrobe, Callable[[], bool]], None]) -> Job:
        """Let nothing that goes wrong here reach the thread that does it."""

        def guarded(wardrobe: Wardrobe | None, should_stop: Callable[[], bool]) -> None:
            if self._is_closed.is_set():
                return
            if wardrobe is None:
                self._say(Told(GIVEN_BACK, is_error=True))
                return
            try:
                job(wardrobe, should_stop)
            except LoraTuiError as error:
                self._say(Told(str(error), is_error=True))
            except Exception as error:  # noqa: BLE001 - a chat must never end a run
                self._say(Told(f"{type(error).__name__}: {error}", is_error=True))

        return guarded

    def _greet(self, wardrobe: Wardrobe, should_stop: Callable[[], bool]) -> None:
        del should_stop
        wardrobe.put_on(self.chosen)
        if wardrobe.files is not None and (warning := other_base(self.chosen, wardrobe.files)):
            self._say(Told(warning))
        self._say(Ready(self.chosen.label, wardrobe.has_base))

    def _answer(
        self,
        wardrobe: Wardrobe,
        side: Side,
        messages: Sequence[Message],
        sampling: Sampling,
        should_stop: Callable[[], bool],
    ) -> None:
        from engine.reply import encode, reply

        if side == "adapter":
            wardrobe.put_on(self.chosen)
        wardrobe.show_adapter(is_shown=side == "adapter")
        try:
            prompt = encode(wardrobe.tokenizer, messages)
            pieces = reply(
                wardrobe.model,
                wardrobe.tokenizer,
                prompt,
                _within_memory(wardrobe, sampling, len(prompt)),
                lambda: self._stop.is_set() or should_stop(),
                max_positions=wardrobe.max_positions,
            )
            while True:
                self._say(Piece(side, next(pieces)))
        except StopIteration as end:
            done = end.value
            self._say(Answered(side, done.ending, done.tokens, done.tokens_per_second))
        finally:
            wardrobe.show_adapter(is_shown=True)

    def _say(self, event: TalkEvent) -> None:
        self._events.append(event)

    def _work(self) -> None:
        """The thread, from the first import of MLX to its last statement."""
        begin_thread()
        try:
            from engine.prepare import eager_on_cpu

            with eager_on_cpu():
                self._serve()
        finally:
            end_thread()

    def _serve(self) -> None:
        from engine.use.wardrobe import Wardrobe

        loaded: list[Wardrobe] = []

        try:
            files = base_files(self.chosen)
            loaded.append(Wardrobe.load(self.chosen.config, files))
        except LoraTuiError as error:
            self._say(Told(str(error), is_error=True))
            return
        self._guarded(self._greet)(loaded[0], self._is_closed.is_set)
        while (job := self._jobs.get()) is not None and not self._is_closed.is_set():
            job(loaded[0], self._is_closed.is_set)


def open_talk(
    name: str,
    model: str | None = None,
    lend: Callable[[Job], None] | None = None,
    plan: MemoryPlan | None = None,
) -> Talk:
    """Find what to talk to, and check that nobody trains it right now.

    Args:
        name: ``RUN[@iteration]``, or a folder that mlx-lm trained.
        model: another base than the one that it names.
        lend: does a job with the model of a run that stands still in this process.
        plan: that run's memory.

    Raises:
        InputError: when there is no such thing, its base is gone, or it is in training.
    """
    chosen = choose(name, model)
    base_files(chosen)
    run = chosen.directory
    if lend is None and run and is_held(run.lock_file) and summarise(run).status != "paused":
        raise InputError(
            f"{run.name} is in training, and a second model would take its memory.",
            "Pause it first.",
        )
    return Talk(chosen, lend, plan)


def _within_memory(wardrobe: Wardrobe, sampling: Sampling, prompt_tokens: int) -> Sampling:
    """Shorten an answer to what a run's plan leaves.

    Raises:
        InputError: when it leaves nothing.
    """
    from engine.sample import sampling_within

    if wardrobe.free_bytes is None or wardrobe.answers is None:
        return sampling
    bounded = sampling_within(sampling, wardrobe.answers, prompt_tokens, wardrobe.free_bytes)
    if bounded is None:
        raise InputError(
            f"The run's plan leaves no memory to answer {prompt_tokens:,} tokens.",
            "Begin a new conversation, or end the run and talk then: lora-tui chat.",
        )
    return bounded
