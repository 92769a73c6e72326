"""Does what somebody wants done with a checkpoint: shows, compares, forks, deletes."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import TYPE_CHECKING

from engine.errors import LoraTuiError
from tui import asking
from tui.checkpoint import CheckpointScreen, CompareScreen, Offer, Seen
from tui.confirm import DELETE, WordQuestion, delete_checkpoint_question
from tui.home import HomeScreen
from tui.panes.checkpoints import BASIC

if TYPE_CHECKING:
    from engine.events import CheckpointSaved
    from tui.controls import Bench
    from tui.dashboard import Dashboard
    from tui.panes.checkpoints import Act
    from tui.watch import RunWatch


class CheckpointDesk:
    """The checkpoints of the run on a dashboard."""

    def __init__(self, dashboard: Dashboard, bench: Bench, *, has_home: bool) -> None:
        self._board = dashboard
        self._bench = bench
        self._has_home = has_home
        dashboard.checkpoints.offers = self.offers

    @property
    def offers(self) -> frozenset[Act]:
        """What can be done here with a checkpoint of a run that is over."""
        offered: set[Act] = {"delete", "fuse"}
        if self._has_home:
            offered.add("resume")
        return frozenset(offered)

    async def act(self, act: str, saved: CheckpointSaved) -> None:
        """Do one thing, asking where something would be lost; only from a worker."""
        offer = next((each for each in self._choices(saved) if each.act == act), None)
        if offer is not None and offer.refusal:
            self._board.notify(f"{offer.words}: {offer.refusal}", severity="warning", markup=False)
            return
        match act:
            case "open":
                seen = await self._see(saved)
                screen = CheckpointScreen(seen, self._choices(saved), self._watch.today)
                if chosen := await asking.ask(self._board, screen):
                    await self.act(chosen, saved)
            case "compare":
                await self._compare(saved)
            case "reveal":
                asking.copy(self._board, self._path(saved))
            case "resume":
                path = f"{self._watch.controls.path}@{saved.iteration}"
                self._board.post_message(HomeScreen.RunChosen(path, goes_on=True))
            case "delete":
                await self._delete(saved)
            case "try":
                self._board.action_try(saved.iteration)
            case "fuse":
                screen = self._bench.fuse(self._watch.controls.path, saved.iteration)
                await asking.ask(self._board, screen)
            case _:
                pass

    @property
    def _watch(self) -> RunWatch:
        return self._board.run_watch

    def _choices(self, saved: CheckpointSaved) -> list[Offer]:
        """What to do with it, and why not where not."""
        busy = "" if self._watch.is_over else "once this run is over"
        looks_only = "this is read-only" if self._watch.controls.refusal else ""
        busy = looks_only or busy
        started = self._watch.view.started
        is_done = started is not None and saved.iteration >= started.iterations
        nothing_left = f"all {saved.iteration:,} iterations are done" if is_done else ""
        offered = [
            Offer("resume", "r", "a new run from here", busy or nothing_left),
            Offer("try", "t", "try it: talk with the model", looks_only or self._in_the_way),
            Offer("fuse", "f", "fuse it into a model of its own", busy),
            Offer("compare", "v", "compare with another", self._alone),
            Offer("reveal", "o", "copy the path of its file"),
            Offer("delete", "delete", "delete it", busy),
        ]
        own = self.offers | BASIC
        return [offer for offer in offered if offer.act in own]

    @property
    def _in_the_way(self) -> str:
        if self._watch.can_be_tried:
            return ""
        elsewhere = self._watch.controls.outlives_app
        return "once this run is over" if elsewhere else "pause this run first"

    @property
    def _alone(self) -> str:
        return "" if len(self._watch.view.checkpoints) > 1 else "there is no other"

    def _path(self, saved: CheckpointSaved) -> str:
        path = PurePath(saved.path)
        return str(path if path.is_absolute() else PurePath(self._watch.controls.path) / path)

    async def _see(self, saved: CheckpointSaved) -> Seen:
        folder, best = self._watch.controls.path, self._watch.view.best
        read = self._bench.records.checkpoint
        facts = await asyncio.to_thread(read, folder, saved.iteration)
        return Seen(
            saved,
            facts,
            best is not None and best.iteration == saved.iteration,
            self._path(saved),
            f"lora-tui run --resume {PurePath(folder).name}@{saved.iteration}",
            self._measured_at(saved),
        )

    def _measured_at(self, saved: CheckpointSaved) -> int | None:
        """After which iteration the loss was measured that a checkpoint tells."""
        evaluations = self._watch.whole.evaluations
        done = [each.iteration for each in evaluations if each.iteration <= saved.iteration]
        return done[-1] if done else None

    async def _compare(self, saved: CheckpointSaved) -> None:
        everything = reversed(self._watch.view.checkpoints)
        others = [each for each in everything if each.iteration != saved.iteration]
        best = self._watch.view.best
        # The best is what people want to know about first.
        others.sort(key=lambda each: best is None or each.iteration != best.iteration)
        seen = [await self._see(each) for each in others]
        screen = CompareScreen(await self._see(saved), seen, self._watch.today)
        await asking.ask(self._board, screen)

    async def _delete(self, saved: CheckpointSaved) -> None:
        if not await self._is_sure(saved):
            return
        folder = self._watch.controls.path
        try:
            delete = self._bench.records.delete_checkpoint
            await asyncio.to_thread(delete, folder, saved.iteration)
        except LoraTuiError as error:
            self._board.notify(str(error), severity="error", markup=False)
            return
        self._watch.forget_checkpoint(saved.iteration)
        self._board.draw()
        self._board.refresh_bindings()
        self._board.notify(f"Deleted the checkpoint at {saved.iteration:,}.")

    async def _is_sure(self, saved: CheckpointSaved) -> bool:
        """Ask; for the best and the newest a word has to be typed."""
        view = self._watch.view
        if view.checkpoints and saved.iteration == view.checkpoints[-1].iteration:
            what = "the newest: what this run goes on from"
        elif view.best and view.best.iteration == saved.iteration:
            what = "the best of this run"
        else:
            question = delete_checkpoint_question(saved.iteration)
            return await asking.ask(self._board, question) == DELETE
        text = f"{saved.iteration:,} is {what}. Nothing brings it back."
        return await asking.ask(self._board, WordQuestion(DELETE, text)) == DELETE
