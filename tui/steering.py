"""Steers the run on a screen by keys, or says why it may only be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.screen import Screen

if TYPE_CHECKING:
    from textual.app import App

    from tui.watch import Request, RunWatch


class SteeringScreen(Screen[None]):
    """A screen of one run whose keys ask something of it, and show its report once it is over."""

    run_watch: RunWatch

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to tell of a run that got as far as its first step."""
        if action == "report":
            return self.run_watch.is_over and self.run_watch.whole.started is not None
        return super().check_action(action, parameters)

    def action_report(self) -> None:
        """Show the report."""
        from tui.report import ReportScreen, facts_of  # the dashboard is painted without it

        controls = self.run_watch.controls
        self.app.push_screen(ReportScreen(lambda: facts_of(controls)))  # pyright: ignore[reportUnknownMemberType]

    def draw(self) -> None:
        """Draw everything as it is now."""
        raise NotImplementedError

    def ask(self, request: Request) -> None:
        """Ask something of the run, and show at once that it was asked."""
        if self.is_refused():
            return
        self.run_watch.ask(request)
        self.draw()
        self.refresh_bindings()

    def is_refused(self) -> bool:
        """Say why the run may only be looked at, where that is so."""
        refusal = self.run_watch.controls.refusal
        if refusal:
            # Said once, however often keys are pressed.
            cast("App[None]", self.app).clear_notifications()  # pyright: ignore[reportUnknownMemberType]
            self.notify(refusal, severity="warning", markup=False)
        return bool(refusal)

    def action_pause(self) -> None:
        """Ask the run to stand still."""
        self.ask("pause")

    def action_resume(self) -> None:
        """Ask the run to go on."""
        self.ask("resume")

    def action_checkpoint(self) -> None:
        """Ask the run to save."""
        self.ask("checkpoint")

    def action_evaluate(self) -> None:
        """Ask the run for its validation loss."""
        self.ask("evaluate")

    def action_sample(self) -> None:
        """Ask the run to answer the fixed prompts."""
        self.ask("sample")

    def action_next_policy(self) -> None:
        """Change what happens when memory runs short."""
        if not self.is_refused():
            self.run_watch.next_policy()
            self.draw()
