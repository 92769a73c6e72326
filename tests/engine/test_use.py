"""Any checkpoint answers, is measured and fused; what cannot be used is said in one message."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import shutil
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine import events as ev
from engine.conversation import Sampling
from engine.errors import DamagedError, DiskFullError, InputError, ModelError, RunError
from engine.model_files import read_model_folder
from engine.reply import encode, reply
from engine.use import fuse as fusing
from engine.use.chosen import base_files, choose, other_base, siblings
from engine.use.evaluate import Done, evaluate
from engine.use.fuse import Fused, FuseOptions, fuse
from engine.use.generate import generate
from engine.use.wardrobe import Wardrobe
from tests.tiny import chat_row, make_tiny_data, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.workshop import Finished, Workshop

ASKED = [{"role": "user", "content": "What do you know of Rome?"}]


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def trained(tiny: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run with checkpoints at 3, 4 and 6."""
    data = make_tiny_data(tmp_path_factory.mktemp("data"))
    write_rows(data / "test.jsonl", [chat_row("And Rome?", "A town.")] * 3)
    run = tiny.run("used", data=str(data), learning_rate=1e-2, test=True)
    assert run.ended.status == "completed"
    return run


@pytest.fixture
def adapters(trained: Finished, tmp_path: Path) -> Path:
    """The adapter as mlx-lm would leave it: no run around it, no state."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    for name in ("adapter_config.json", "adapters.safetensors"):
        shutil.copy(trained.directory.adapters / name, folder / name)
    return folder


def named(run: Finished, at: str = "") -> str:
    return f"{run.directory.path}{at}"


def said(name: str, **options: Any) -> str:
    """What a checkpoint answers."""
    sampling = options.pop("sampling", Sampling(max_tokens=8))
    chosen = choose(name, options.pop("model", None))
    items = generate(chosen, ASKED, sampling, never, **options)
    return "".join(item for item in items if isinstance(item, str))


def logits(model: Any) -> Any:
    return np.array(model(mx.array([[5, 6, 7, 8]])).astype(mx.float32))


def test_names_lead_to_files(trained: Finished, adapters: Path) -> None:
    newest = choose(named(trained))
    assert (newest.label, newest.file.name, newest.iteration) == (
        "used@6", "adapters.safetensors", 6,
    )  # fmt: skip
    assert choose(named(trained, "@4")).file.name == "0000004_adapters.safetensors"
    assert choose(named(trained, "@best")).file.name == "best.safetensors"
    assert [c.label for c in siblings(newest)] == ["used@3", "used@4", "used@6"]
    # The folder inside a run is the run's.
    assert choose(str(trained.directory.adapters)).directory == trained.directory
    theirs = choose(str(adapters))
    assert (theirs.directory, theirs.facts, theirs.label) == (None, None, f"{adapters}@6")


def test_what_is_not_there_is_said(trained: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint at 5") as error:
        choose(named(trained, "@5"))
    assert error.value.hint == "It has: 3, 4, 6."
    with pytest.raises(InputError, match="neither a run nor an adapter"):
        choose(str(tmp_path))
    with pytest.raises(InputError, match="there is no run 'nothing'"):
        choose("nothing")


def test_a_damaged_checkpoint_is_refused(trained: Finished, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.directory.path, copy)
    path = copy / "adapters" / "0000004_adapters.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="not what was written"):
        choose(f"{copy}@4")


def test_adapters_go_on_and_off(trained: Finished) -> None:
    chosen = choose(named(trained))
    wardrobe = Wardrobe.load(chosen.config, base_files(chosen))
    base = logits(wardrobe.model)
    wardrobe.put_on(chosen)
    adapted = logits(wardrobe.model)
    assert np.abs(adapted - base).max() > 1e-2
    wardrobe.show_adapter(is_shown=False)
    assert np.array_equal(logits(wardrobe.model), base)
    wardrobe.show_adapter(is_shown=True)
    assert np.array_equal(logits(wardrobe.model), adapted)
    wardrobe.put_on(choose(named(trained, "@3")))
    assert not np.array_equal(logits(wardrobe.model), adapted)
    wardrobe.put_on(chosen)
    assert np.array_equal(logits(wardrobe.model), adapted)
    wardrobe.take_off()
    assert np.array_equal(logits(wardrobe.model), base)


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_other_kinds_of_training_go_on_and_off(workshop: Workshop, kind: str) -> None:
    run = workshop.run(fine_tune_type=kind, learning_rate=1e-2, num_layers=1)
    chosen = choose(named(run))
    wardrobe = Wardrobe.load(chosen.config, base_files(chosen))
    base = logits(wardrobe.model)
    wardrobe.put_on(chosen)
    assert np.abs(logits(wardrobe.model) - base).max() > 1e-3
    wardrobe.take_off()
    assert np.array_equal(logits(wardrobe.model), base)


def test_answers_are_the_checkpoints_own(trained: Finished, adapters: Path) -> None:
    greedy = said(named(trained))
    assert greedy
    assert said(str(adapters)) == greedy
    assert said(named(trained), is_base=True) != greedy
    drawn = Sampling(8, temperature=1.5, top_p=0.9, seed=3)
    assert said(named(trained), sampling=drawn) == said(named(trained), sampling=drawn) != greedy


def test_a_prompt_longer_than_the_context_is_refused(trained: Finished) -> None:
    long = [{"role": "user", "content": "Rome " * 600}]
    with pytest.raises(InputError, match=r"The prompt has [\d,]+ tokens, but the model was made"):
        list(generate(choose(named(trained)), long, Sampling(), never))


def test_an_answer_ends_where_the_context_does(trained: Finished) -> None:
    chosen = choose(named(trained))
    wardrobe = Wardrobe.load(chosen.config, base_files(chosen))
    prompt = encode(wardrobe.tokenizer, ASKED)
    pieces = reply(
        wardrobe.model, wardrobe.tokenizer, prompt, Sampling(99), never,
        max_positions=len(prompt) + 3,
    )  # fmt: skip
    done = None
    try:
        while True:
            next(pieces)
    except StopIteration as end:
        done = end.value
    assert done.tokens <= 3


def test_another_base_is_one_message(trained: Finished, tmp_path: Path) -> None:
    short = make_tiny_model(tmp_path / "short", num_hidden_layers=1)
    weights = load_file(short / "model.safetensors")
    kept = {name: array for name, array in weights.items() if "layers.1." not in name}
    save_file(kept, short / "model.safetensors", {"format": "mlx"})
    with pytest.raises(ModelError, match="was trained on another base"):
        said(named(trained), model=str(short))
    with pytest.raises(ModelError, match="The base model of used@6 is not there"):
        said(named(trained), model=str(tmp_path / "gone"))


def test_weights_that_changed_are_warned_of(trained: Finished, tmp_path: Path) -> None:
    chosen = choose(named(trained))
    assert other_base(chosen, base_files(chosen)) == ""
    other = make_tiny_model(tmp_path / "other", rope_theta=20000.0)
    assert "was not trained on the weights" in other_base(chosen, read_model_folder(other))


def test_it_is_measured_as_the_run_measured_it(trained: Finished) -> None:
    (tested,) = trained.of(ev.Tested)
    (done,) = (d for d in evaluate(choose(named(trained)), never) if isinstance(d, Done))
    assert done.part == "test rows"
    assert done.score.loss == pytest.approx(tested.test_loss, rel=1e-5)
    assert done.score.rows == tested.rows == 3
    assert done.score.perplexity == pytest.approx(math.exp(tested.test_loss), rel=1e-4)
    # Three rows that are the same do not vary.
    assert done.score.loss_high == pytest.approx(done.score.loss_low, rel=1e-4)
    valid = evaluate(choose(named(trained)), never, part="valid")
    (on_valid,) = (d.score.loss for d in valid if isinstance(d, Done))
    assert on_valid == pytest.approx(trained.of(ev.Evaluated)[-1].val_loss, rel=1e-5)
    base = evaluate(choose(named(trained)), never, part="valid", is_base=True)
    (of_base,) = (d.score.loss for d in base if isinstance(d, Done))
    assert of_base == pytest.approx(trained.of(ev.Evaluated)[0].val_loss, rel=1e-5)


def test_a_file_of_rows_is_measured(trained: Finished, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.jsonl", [chat_row("Oslo?", "A town.")])
    (done,) = (
        d for d in evaluate(choose(named(trained)), never, data=str(path)) if isinstance(d, Done)
    )
    assert (done.part, done.score.rows) == ("own.jsonl", 1)
    assert math.isnan(done.score.loss_low)


def test_the_fused_model_is_base_and_adapter(trained: Finished, tmp_path: Path) -> None:
    items = list(fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), never))
    fused = items[-1]
    assert isinstance(fused, Fused)
    assert fused.difference < 1e-3
    assert {p.name for p in fused.path.iterdir()} >= {"config.json", "model.safetensors"}
    import mlx_lm

    model = mlx_lm.load(str(fused.path))[0]
    chosen = choose(named(trained))
    wardrobe = Wardrobe.load(chosen.config, base_files(chosen))
    wardrobe.put_on(chosen)
    assert np.abs(logits(model) - logits(wardrobe.model)).max() < 1e-3
    with pytest.raises(InputError, match="exists already"):
        list(fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), never))


def quantized(model: Path, folder: Path) -> Path:
    """The same model in 4 bits, by mlx-lm's own converter."""
    from mlx_lm import convert

    with contextlib.redirect_stdout(None):
        convert(str(model), str(folder), quantize=True, q_group_size=32, q_bits=4)
    return folder


def test_a_quantised_base_is_unpacked_or_packed_again(workshop: Workshop) -> None:
    base = quantized(workshop.model, workshop.folder / "packed")
    run = workshop.run(model=str(base), learning_rate=1e-2)
    chosen = choose(named(run))
    unpacked = workshop.folder / "unpacked"
    *_, fused = fuse(chosen, unpacked, FuseOptions(dequantize=True), never)
    assert isinstance(fused, Fused)
    assert "quantization" not in json.loads((unpacked / "config.json").read_text())
    assert fused.difference < 3e-2
    *_, again = fuse(chosen, workshop.folder / "again", FuseOptions(), never)
    assert isinstance(again, Fused)
    assert "quantization" in json.loads((again.path / "config.json").read_text())


def test_gguf_only_where_mlx_lm_can(trained: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="llama, mixtral, mistral only, and this is qwen2"):
        list(fuse(choose(named(trained)), tmp_path / "f", FuseOptions(gguf=True), never))


def test_a_llama_is_written_as_gguf_too(workshop: Workshop) -> None:
    llama = make_tiny_model(workshop.folder / "llama", model_type="llama")
    weights = load_file(llama / "model.safetensors")
    kept = {name: array for name, array in weights.items() if not name.endswith("bias")}
    save_file(kept, llama / "model.safetensors", {"format": "mlx"})
    run = workshop.run(model=str(llama), iters=1)
    *_, fused = fuse(choose(named(run)), workshop.folder / "gguf", FuseOptions(gguf=True), never)
    assert isinstance(fused, Fused)
    assert (fused.path / fusing.GGUF_NAME).read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_what_16_bits_round_is_within_their_tolerance(workshop: Workshop, kind: str) -> None:
    """And the sum of base and adapter is rounded once: DoRA's would be left in 32 bits."""
    run = workshop.run(fine_tune_type="dora", learning_rate=1e-2, num_layers=1)
    folder = workshop.folder / "narrow"
    *_, fused = fuse(choose(named(run)), folder, FuseOptions(dtype=kind), never)
    assert isinstance(fused, Fused)
    assert fused.dtype == kind
    assert 0 < fused.difference <= fused.tolerance
    arrays = cast("dict[str, mx.array]", mx.load(str(folder / "model.safetensors")))
    assert {str(array.dtype) for array in arrays.values()} == {f"mlx.core.{kind}"}


def nothing_left(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_a_full_disk_is_seen_before_anything_is_loaded(
    trained: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError):
        list(fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), never))
    assert nothing_left(tmp_path)


def test_a_disk_that_fills_up_while_it_is_written_leaves_nothing(
    trained: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, *_: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fusing, "_write", full)
    with pytest.raises(DiskFullError):
        list(fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), never))
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("moment", ["fusing", "writing the model", "checking the model"])
def test_a_fuse_that_is_stopped_leaves_nothing(
    trained: Finished, tmp_path: Path, moment: str
) -> None:
    stops: list[bool] = []
    items = fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), lambda: bool(stops))
    for item in items:
        assert not isinstance(item, Fused)
        if item.message.startswith(moment):
            stops.append(True)
    assert stops
    assert nothing_left(tmp_path)


def test_what_is_not_the_same_model_never_appears(
    trained: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fusing.logits
    factors: Iterator[float] = iter((1.0, 1.5))
    monkeypatch.setattr(fusing, "logits", lambda *given: real(*given) * next(factors))
    with pytest.raises(RunError, match="not the same as base and adapter"):
        list(fuse(choose(named(trained)), tmp_path / "fused", FuseOptions(), never))
    assert nothing_left(tmp_path)
