"""A run that was interrupted and goes on ends as if it never had been: byte for byte."""

from __future__ import annotations

import json
import shutil
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from engine import checkpoint
from engine import events as ev
from engine.config import RunConfig
from engine.errors import ConfigError, RunBusyError
from engine.journal import read_journal
from engine.lock import RunLock, is_held
from engine.resume import FREE, MADE_OF, Resume, check_config, check_left, find_point
from engine.runs import RunDirectory, summarise, token_cache
from engine.session import Session
from engine.view import RunView
from tests.engine.workshop import ENDLESS, PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.workshop import Finished, Workshop

LENGTHENED: dict[str, Any] = {"iters": 7, "save_every": 3, "steps_per_eval": 100, "val_batches": 0}
OTHER_RUN = frozenset(
    {
        "fine_tune_type", "optimizer", "optimizer_config", "seed", "num_layers", "batch_size",
        "learning_rate", "resume_adapter_file", "max_seq_length", "grad_accumulation_steps",
        "lr_schedule", "lora_parameters", "mask_prompt", "prompt_feature", "completion_feature",
        "text_feature", "chat_feature", "max_grad_norm", "dtype",
    }
)  # fmt: skip
"""Settings that make another run."""
WARM_UP: dict[str, Any] = {
    "name": "cosine_decay",
    "warmup": 3,
    "warmup_init": 1e-7,
    "arguments": [1e-2, 10, 1e-4],
}


def go_on(workshop: Workshop, run: Path, **changes: Any) -> Session:
    """Resume a run in its own folder, and wait for its end."""
    directory = RunDirectory(run)
    config = workshop.config(**changes)
    session = Session(config, directory, Resume(directory.adapters))
    session.start()
    assert session.join(PATIENCE)
    return session


def killed_at(run: RunDirectory, iteration: int, to: Path) -> Path:
    """Copy a run as if its process had died after a checkpoint: with a journal that knows more."""
    shutil.copytree(run.path, to)
    adapters = RunDirectory(to).adapters
    for later in [i for i in checkpoint.iterations(adapters) if i > iteration]:
        checkpoint.remove(adapters, later)
    (adapters / "best.safetensors").unlink(missing_ok=True)
    (adapters / "adapters.safetensors").unlink()
    shutil.copyfile(
        adapters / checkpoint.checkpoint_name(iteration), adapters / "adapters.safetensors"
    )
    journal = RunDirectory(to).journal_file
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '{"event": "ended"' not in line))
    return to


def weights(run: Path) -> bytes:
    return (RunDirectory(run).adapters / "adapters.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("optimizer", "dropout", "accumulation", "schedule"),
    list(
        product(("adam", "adamw", "sgd", "muon", "adafactor"), (0.0, 0.1), (1, 4), (None, "cosine"))
    ),
)
def test_resumed_is_as_never_interrupted(
    workshop: Workshop, optimizer: str, dropout: float, accumulation: int, schedule: str | None
) -> None:
    """With an accumulation of 4 the checkpoint at 3 lies between two updates."""
    settings: dict[str, Any] = LENGTHENED | {
        "optimizer": optimizer,
        "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": dropout},
        "grad_accumulation_steps": accumulation,
        "lr_schedule": WARM_UP if schedule else None,
    }
    whole = workshop.run(**settings)
    assert whole.ended.status == "completed"
    killed = killed_at(whole.directory, 3, workshop.folder / "killed")
    before = weights(killed)
    resumed = go_on(workshop, killed, **settings)
    assert [e.iteration for e in resumed.events if isinstance(e, ev.Step)] == [4, 5, 6, 7]
    assert before != whole.weights
    assert weights(killed) == whole.weights
    for name in ("0000007_adapters.safetensors", "0000007_state/optimizer.safetensors"):
        ours, theirs = (RunDirectory(p).adapters / name for p in (killed, whole.directory.path))
        assert ours.read_bytes() == theirs.read_bytes()


def test_stopped_at_any_moment_it_goes_on_exactly(workshop: Workshop) -> None:
    settings: dict[str, Any] = {"iters": 40, "save_every": 7, "steps_per_eval": 5}
    whole = workshop.run(**settings)
    session = workshop.session("stopped", **settings)
    session.start()
    seen = 0
    while not any(isinstance(e, ev.Step) and e.iteration > 10 for e in session.events):
        seen = session.wait_for_events(seen, PATIENCE)
    session.stop()
    assert session.join(PATIENCE)
    assert session.events[-1].kind == "ended"
    stopped = session.directory.path
    go_on(workshop, stopped, **settings)
    assert weights(stopped) == whole.weights
    best = [(run / "adapters" / "best.safetensors").read_bytes() for run in _both(whole, stopped)]
    assert best[0] == best[1]
    view = RunView()
    view.apply_all(read_journal(session.directory.journal_file))
    assert list(view.steps.iteration) == list(range(1, 41))
    assert list(view.steps.loss) == whole.losses
    assert [e.val_loss for e in view.evaluations] == [e.val_loss for e in whole.of(ev.Evaluated)]
    assert view.status == "completed"


def _both(whole: Finished, other: Path) -> tuple[Path, Path]:
    return whole.directory.path, other


def test_more_iterations_continue_the_same_run(workshop: Workshop) -> None:
    whole = workshop.run(iters=9, steps_per_eval=100)
    short = workshop.run("short", iters=5, steps_per_eval=100)
    go_on(workshop, short.directory.path, iters=9, steps_per_eval=100)
    assert weights(short.directory.path) == whole.weights


def test_another_micro_batch_gives_the_same_losses(workshop: Workshop) -> None:
    settings: dict[str, Any] = {"iters": 8, "save_every": 4, "steps_per_eval": 100}
    whole = workshop.run(**settings)
    killed = killed_at(whole.directory, 4, workshop.folder / "killed")
    resumed = go_on(workshop, killed, **settings, micro_batch_size=1)
    losses = [e.loss for e in resumed.events if isinstance(e, ev.Step)]
    assert losses == pytest.approx(whole.losses[4:], rel=1e-5)


def test_a_fork_is_a_run_of_its_own_and_names_its_parent(workshop: Workshop) -> None:
    settings: dict[str, Any] = {"iters": 8, "save_every": 4, "steps_per_eval": 100}
    whole = workshop.run(**settings)
    directory = RunDirectory(workshop.folder / "fork")
    wish = Resume(whole.directory.adapters, 4, f"{whole.directory.name}@4")
    fork = Session(workshop.config(**settings), directory, wish)
    fork.start()
    assert fork.join(PATIENCE)
    started = next(e for e in fork.events if isinstance(e, ev.Started))
    assert (started.iteration, started.parent) == (4, f"{whole.directory.name}@4")
    assert weights(directory.path) == whole.weights
    shutil.rmtree(whole.directory.path)
    assert checkpoint.verify(directory.adapters, 4)["iteration"] == 4


@pytest.fixture
def run(workshop: Workshop) -> Finished:
    """A run with checkpoints at 3, 6 and 7."""
    return workshop.run(**LENGTHENED)


DAMAGES = ("truncated", "flipped", "missing", "empty")


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[len(content) // 2] ^= 1
            path.unlink()
            path.write_bytes(content)
        case "empty":
            path.write_bytes(b"")
        case _:
            path.unlink()


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["adapters", "optimizer", "state"])
def test_damage_is_found_and_the_checkpoint_before_is_taken(
    run: Finished, name: str, how: str
) -> None:
    adapters = run.directory.adapters
    # Links share their content with others of the same run.
    for link in ("adapters.safetensors", "best.safetensors"):
        (adapters / link).unlink(missing_ok=True)
    path = {
        "adapters": adapters / "0000007_adapters.safetensors",
        "optimizer": adapters / "0000007_state" / "optimizer.safetensors",
        "state": adapters / "0000007_state" / "state.json",
    }[name]
    damage(path, how)
    point = find_point(Resume(adapters))
    assert point is not None
    assert point.iteration == 6
    assert "The checkpoint at 7 cannot be used" in point.damaged[0]


def test_every_single_bit_counts(run: Finished) -> None:
    path = run.directory.adapters / "0000007_state" / "state.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        point = find_point(Resume(run.directory.adapters))
        assert point is not None
        assert point.iteration == 6, at


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    workshop: Workshop, run: Finished
) -> None:
    damage(run.directory.adapters / "0000007_adapters.safetensors", "missing")
    damage(run.directory.adapters / "0000006_state" / "optimizer.safetensors", "truncated")
    session = go_on(workshop, run.directory.path, **LENGTHENED)
    assert [e.iteration for e in session.events if isinstance(e, ev.Step)] == [4, 5, 6, 7]
    warned = [e.message for e in session.events if isinstance(e, ev.Warned)]
    assert any(
        "checkpoint at 6 cannot be used: optimizer.safetensors is damaged" in w for w in warned
    )
    assert weights(run.directory.path)


def test_without_a_whole_checkpoint_there_is_one_clear_error(
    workshop: Workshop, run: Finished
) -> None:
    for iteration in (3, 6, 7):
        damage(run.directory.adapters / f"{iteration:07d}_state" / "state.json", "empty")
    session = go_on(workshop, run.directory.path, **LENGTHENED)
    assert session.exit_code == 1
    assert session.error is not None
    assert "No checkpoint of this run is whole" in session.error.hint


def test_a_run_without_a_checkpoint_begins_anew(workshop: Workshop, run: Finished) -> None:
    final = run.weights
    for iteration in (3, 6, 7):
        checkpoint.remove(run.directory.adapters, iteration)
    (run.directory.adapters / "adapters.safetensors").unlink()
    session = go_on(workshop, run.directory.path, **LENGTHENED)
    assert [e.iteration for e in session.events if isinstance(e, ev.Step)] == list(range(1, 8))
    assert weights(run.directory.path) == final


def test_another_model_or_other_data_is_refused(workshop: Workshop, run: Finished) -> None:
    from tests.tiny import chat_row, make_tiny_model, write_rows

    other = make_tiny_model(workshop.folder / "other", seed=7)
    session = go_on(workshop, run.directory.path, **LENGTHENED | {"iters": 9, "model": str(other)})
    assert session.exit_code == 2
    assert session.error is not None
    assert "model: not the same as at iteration 7" in session.error.message
    rows = [chat_row("Where?", f"Here, {i}.") for i in range(16)]
    write_rows(workshop.folder / "rows" / "train.jsonl", rows)
    changes = LENGTHENED | {"iters": 9, "data": str(workshop.folder / "rows")}
    session = go_on(workshop, run.directory.path, **changes)
    assert session.error is not None
    assert "data: not the same" in session.error.message
    assert run.weights == weights(run.directory.path)


def test_settings_that_make_another_run_are_all_named(workshop: Workshop, run: Finished) -> None:
    facts = checkpoint.read_facts(run.directory.adapters, 7)
    changes = LENGTHENED | {"iters": 9, "learning_rate": 1.0, "batch_size": 2}
    with pytest.raises(ConfigError) as error:
        check_config(facts, workshop.config(**changes))
    assert error.value.problems == ("batch_size: 4 → 2", "learning_rate: 0.001 → 1.0")
    free = LENGTHENED | {"iters": 9, "micro_batch_size": 1, "memory_budget_bytes": 10**9}
    assert len(check_config(facts, workshop.config(**free))) == 3


def test_what_is_done_is_not_done_again(workshop: Workshop, run: Finished) -> None:
    facts = checkpoint.read_facts(run.directory.adapters, 7)
    config = workshop.config(**LENGTHENED)
    with pytest.raises(ConfigError, match="7 of 7 iterations are done"):
        check_left(facts, config, run.directory)
    check_left(facts, workshop.config(**LENGTHENED | {"iters": 8}), run.directory)
    killed = RunDirectory(killed_at(run.directory, 7, workshop.folder / "killed"))
    check_left(facts, config, killed)
    for shorter, begun in ((6, killed), (7, None)):
        with pytest.raises(ConfigError, match=f"7 of {shorter} iterations are done"):
            check_left(facts, workshop.config(**LENGTHENED | {"iters": shorter}), begun)


def test_a_run_killed_after_its_last_iteration_is_tested_and_ends(workshop: Workshop) -> None:
    data = shutil.copytree(workshop.data, workshop.folder / "tested")
    shutil.copyfile(data / "valid.jsonl", data / "test.jsonl")
    settings: dict[str, Any] = LENGTHENED | {"data": str(data), "test": True, "val_batches": 2}
    whole = workshop.run(**settings)
    assert whole.ended.status == "completed"
    killed = killed_at(whole.directory, 7, workshop.folder / "killed")
    journal = RunDirectory(killed).journal_file
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '{"event": "tested"' not in line))
    assert summarise(RunDirectory(killed)).status == "interrupted"
    session = go_on(workshop, killed, **settings)
    assert (session.exit_code, session.error) == (0, None)
    assert [e for e in session.events if isinstance(e, ev.Step)] == []
    views = [RunView(), RunView()]
    for view, path in zip(views, (whole.directory.path, killed), strict=True):
        view.apply_all(read_journal(RunDirectory(path).journal_file))
    tested = [view.tested.test_loss if view.tested else None for view in views]
    assert tested[0] is not None
    assert tested[0] == tested[1]
    assert [view.status for view in views] == ["completed", "completed"]
    assert [e.val_loss for e in views[0].evaluations] == [e.val_loss for e in views[1].evaluations]
    assert weights(killed) == whole.weights


def test_a_run_killed_while_it_saved_has_all_of_it_in_place(workshop: Workshop) -> None:
    """Between the checkpoint's folder, which appears at once, and what follows on it."""
    settings: dict[str, Any] = LENGTHENED | {"val_batches": 2, "steps_per_eval": 3}
    whole = workshop.run(**settings)
    best = [e.iteration for e in whole.of(ev.Evaluated) if e.best][-1]
    assert best == 7
    killed = RunDirectory(killed_at(whole.directory, best, workshop.folder / "killed"))
    latest, better = (killed.adapters / f"{name}.safetensors" for name in ("adapters", "best"))
    shutil.copyfile(killed.adapters / checkpoint.checkpoint_name(3), latest)
    shutil.copyfile(latest, better)
    said = [e for e in whole.events if not isinstance(e, ev.Ended)]
    said = [e for e in said if not isinstance(e, ev.CheckpointSaved) or e.iteration < best]
    killed.journal_file.write_text("".join(f"{ev.to_json(e)}\n" for e in said))
    published = workshop.folder / "published"
    go_on(workshop, killed.path, **settings | {"adapter_path": str(published)})
    view = RunView()
    view.apply_all(read_journal(killed.journal_file))
    assert [(c.iteration, c.reason) for c in view.checkpoints] == [
        (3, "scheduled"), (6, "scheduled"), (7, "final"),
    ]  # fmt: skip
    assert latest.read_bytes() == better.read_bytes() == whole.weights
    assert (published / "adapters.safetensors").read_bytes() == whole.weights


def test_a_checkpoint_that_was_told_is_not_told_again(workshop: Workshop, run: Finished) -> None:
    killed = killed_at(run.directory, 6, workshop.folder / "killed")
    session = go_on(workshop, killed, **LENGTHENED)
    assert [e.iteration for e in session.events if isinstance(e, ev.CheckpointSaved)] == [7]


def test_of_every_setting_it_is_known_whether_it_may_change() -> None:
    kinds = (FREE, frozenset(MADE_OF), OTHER_RUN)
    assert frozenset().union(*kinds) == frozenset(RunConfig.model_fields)
    assert sum(map(len, kinds)) == len(RunConfig.model_fields)


def test_the_same_data_may_be_told_otherwise_and_come_from_no_cache(
    workshop: Workshop, run: Finished
) -> None:
    killed = killed_at(run.directory, 3, workshop.folder / "killed")
    shutil.rmtree(token_cache())
    told: dict[str, Any] = {"data_format": "chat", "validation_split": 0.5}
    session = go_on(workshop, killed, **LENGTHENED | told)
    assert [e.iteration for e in session.events if isinstance(e, ev.Step)] == [4, 5, 6, 7]
    assert weights(killed) == run.weights


def test_two_processes_never_train_the_same_run(workshop: Workshop) -> None:
    session = workshop.session(**ENDLESS)
    session.start()
    seen = 0
    while not session.has_begun:
        seen = session.wait_for_events(seen, PATIENCE)
    assert is_held(session.directory.lock_file)
    with pytest.raises(RunBusyError, match="is being trained by process"):
        RunLock(session.directory.lock_file).acquire()
    second = go_on(workshop, session.directory.path, **ENDLESS)
    assert isinstance(second.error, RunBusyError)
    session.stop()
    assert session.join(PATIENCE)
    assert not is_held(session.directory.lock_file)


def test_a_copied_run_goes_on_elsewhere(workshop: Workshop, run: Finished) -> None:
    copy = shutil.copytree(run.directory.path, workshop.folder / "copy")
    go_on(workshop, copy, **LENGTHENED | {"iters": 9})
    assert checkpoint.iterations(RunDirectory(copy).adapters)[-1] == 9
    assert checkpoint.iterations(run.directory.adapters)[-1] == 7


def test_what_a_killed_process_left_is_cleaned(workshop: Workshop, run: Finished) -> None:
    adapters, journal = run.directory.adapters, run.directory.journal_file
    (adapters / ".tmp-1-0000009_state").mkdir()
    (adapters / ".tmp-1-adapters.safetensors").write_bytes(b"half")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"event": "step", "iter')
    go_on(workshop, run.directory.path, **LENGTHENED | {"iters": 9})
    assert not list(adapters.glob(".tmp-*"))
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_an_interrupted_run_says_what_would_be_lost(workshop: Workshop, run: Finished) -> None:
    killed = killed_at(run.directory, 3, workshop.folder / "killed")
    found = summarise(RunDirectory(killed))
    assert (found.status, found.iteration, found.saved_iteration) == ("interrupted", 7, 3)
    assert found.lost_iterations == 4
    assert found.lost_seconds > 0
    assert summarise(run.directory).status == "completed"


def test_checkpoints_give_way_but_for_the_best_and_every_nth(workshop: Workshop) -> None:
    run = workshop.run(iters=20, save_every=1, steps_per_eval=100, keep_last=2, keep_every=8)
    assert checkpoint.iterations(run.directory.adapters) == [8, 16, 19, 20]
    view = RunView()
    view.apply_all(run.events)
    assert [c.iteration for c in view.checkpoints] == [8, 16, 19, 20]
    names = {path.name for path in run.directory.adapters.glob("*_adapters.safetensors")}
    assert names == {checkpoint.checkpoint_name(i) for i in (8, 16, 19, 20)}


@pytest.mark.parametrize(
    ("last", "every", "best", "kept"),
    [
        (2, None, 0, {9, 12}),
        (1, None, 6, {6, 12}),
        (1, 6, 3, {3, 6, 12}),
        (9, None, 3, {3, 6, 9, 12}),
        (1, None, 5, {12}),
    ],
)
def test_which_checkpoints_are_kept(
    last: int, every: int | None, best: int, kept: set[int]
) -> None:
    assert checkpoint.chosen_to_keep([3, 6, 9, 12], last, every, best) == kept


def test_a_run_that_gains_no_more_ends_early(workshop: Workshop) -> None:
    run = workshop.run(iters=500, steps_per_eval=2, learning_rate=0.0, early_stopping=3)
    assert (run.ended.status, run.ended.exit_code, run.ended.iteration) == ("stopped", 0, 6)
    assert "3 evaluations without gain" in run.ended.reason
