"""The chat screen: both sides stream, answers stop and are copied, checkpoints change."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from engine.conversation import Told
from engine.errors import ModelError
from tests.tui.conftest import Watched, app_for, watched
from tests.tui.scripted import ScriptedRun, ScriptedTalk, trained
from tui.chat import ChatScreen
from tui.chat_app import ChatApp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from textual.pilot import Pilot

pytestmark = pytest.mark.asyncio


class Chatting:
    """A chat without a terminal."""

    def __init__(self, app: ChatApp, talk: ScriptedTalk, pilot: Pilot[None]) -> None:
        self.app, self.talk, self.pilot = app, talk, pilot

    async def look(self) -> None:
        screen = self.app.screen
        assert isinstance(screen, ChatScreen)
        screen.look()
        await self.pilot.pause()

    async def say(self, words: str) -> None:
        await self.pilot.press(*["space" if c == " " else c for c in words], "enter")
        await self.look()

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
        return "\n".join(strip.text for strip in strips)

    @property
    def footer(self) -> list[str]:
        active = self.app.screen.active_bindings.values()
        return [each.binding.description for each in active if each.binding.show]


@asynccontextmanager
async def chatting(size: tuple[int, int] = (80, 24)) -> AsyncGenerator[Chatting]:
    talk = ScriptedTalk()
    app = ChatApp(talk)
    async with app.run_test(size=size) as pilot:
        chat = Chatting(app, talk, pilot)
        await pilot.pause()
        assert "3.00 GB of memory" in chat.text
        await chat.look()
        yield chat


async def test_both_sides_answer_as_it_comes() -> None:
    async with chatting() as chat:
        await chat.say("hello there")
        assert chat.talk.calls[-1] == "ask: hello there"
        assert chat.talk.asked[0][0] == ("adapter", "base")
        chat.talk.answer("adapter", "Good ", ending=None)
        await chat.look()
        assert "Good" in chat.text
        assert "stop" in chat.footer
        chat.talk.answer("adapter", "day.")
        chat.talk.answer("base", "I am ", "a model.")
        await chat.look()
        assert "Good day." in chat.text
        assert "I am a model." in chat.text
        assert "maximum@1000" in chat.text
        assert "base Qwen2.5-1.5B-Instruct" in chat.text
        assert "12.5 tok/s" in chat.text
        assert "back" in chat.footer


async def test_an_answer_is_stopped() -> None:
    async with chatting() as chat:
        await chat.say("hi")
        chat.talk.answer("adapter", "Well", ending=None)
        await chat.look()
        await chat.pilot.press("escape")
        assert chat.talk.calls[-1] == "stop"
        chat.talk.answer("adapter", ending="stopped")
        await chat.look()
        assert "stopped" in chat.text
        # Both sides are done: the next turn may come.
        await chat.say("more")
        assert chat.talk.calls[-1] == "ask: more"


async def test_nothing_is_asked_while_somebody_answers() -> None:
    async with chatting() as chat:
        await chat.say("one")
        await chat.say("two")
        assert [call for call in chat.talk.calls if call.startswith("ask")] == ["ask: one"]


async def test_answers_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting() as chat:
        copied: list[str] = []
        monkeypatch.setattr(chat.app, "copy_to_clipboard", copied.append)
        await chat.say("hi")
        chat.talk.answer("adapter", "Hello.")
        chat.talk.answer("base", "Hey.")
        await chat.look()
        await chat.pilot.press("ctrl+y")
        await chat.pilot.press("ctrl+b", "ctrl+y")
        assert copied == [
            "maximum@1000:\nHello.\n\nbase Qwen2.5-1.5B-Instruct:\nHey.",
            "Hello.",
        ]
        assert "Hey." not in chat.text


async def test_settings_and_checkpoints_change() -> None:
    async with chatting() as chat:
        await chat.pilot.press("ctrl+t", "ctrl+r", "ctrl+n")
        await chat.look()
        assert chat.talk.calls[-1] == "switch: maximum@500"
        assert "chat · maximum@500 · temperature 0.4 · top-p 0.95" in chat.text
        await chat.say("hi")
        ((_, sampling),) = chat.talk.asked
        assert (sampling.temperature, sampling.top_p) == (0.4, 0.95)
        await chat.pilot.press("ctrl+n")
        assert chat.talk.calls[-1] == "ask: hi"


async def test_what_goes_wrong_is_said_and_the_next_turn_may_come() -> None:
    async with chatting() as chat:
        await chat.say("hi")
        chat.talk.events.append(Told("The prompt has 9,000 tokens.", is_error=True))
        await chat.look()
        assert "The prompt has 9,000 tokens." in chat.text
        # What could not be answered may be changed.
        assert chat.app.screen.query_one(Input).value == "hi"
        chat.app.screen.query_one(Input).clear()
        await chat.say("shorter")
        assert chat.talk.calls[-1] == "ask: shorter"


async def test_leaving_gives_the_memory_back() -> None:
    async with chatting() as chat:
        await chat.pilot.press("escape")
        await chat.pilot.pause()
        assert not chat.app.is_running
    assert chat.talk.calls[-1] == "close"


async def open_chat(seen: Watched) -> ChatScreen:
    await seen.press("t")
    await seen.pilot.pause()
    assert isinstance(seen.app.screen, ChatScreen)
    return seen.app.screen


async def test_t_opens_it_once_the_run_stands_still() -> None:
    run = trained(600)
    async with watched(app_for(run)) as seen:
        await seen.press("t")
        assert "talk: None" not in run.calls
        await seen.press("space")
        run.answer()
        await seen.look()
        await open_chat(seen)
        assert run.calls[-1] == "talk: None"
        await seen.press("escape")
        await seen.pilot.pause()
        assert seen.app.screen is seen.dashboard


async def test_a_base_that_is_gone_is_said_over_the_dashboard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(_: ScriptedRun, iteration: int | None) -> ScriptedTalk:
        raise ModelError(f"The base model is not there {iteration}.")

    monkeypatch.setattr(ScriptedRun, "open_talk", gone)
    run = trained(600)
    run.finish()
    async with watched(app_for(run)) as seen:
        await seen.look()
        await seen.press("t")
        await seen.look()
        assert seen.app.screen is seen.dashboard
        (told,) = seen.app._notifications  # pyright: ignore[reportPrivateUsage]
        assert "The base model is not there None." in told.message
