"""How far a fused model is from base and adapter, by the type of its weights and how it rounds.

    uv run python -m tests.bench.fused RUN[@ITERATION]

Logits of fixed text, as a share of the largest. On a CPU bfloat16 takes a minute for 135 M weights.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.blas import preload_openblas

if TYPE_CHECKING:
    from engine.use.chosen import Chosen

Way = Literal["apart", "twice", "once"]
"""Base and adapter as they are; fused as mlx-lm does it; fused as ``lora-tui fuse`` does it."""


def main() -> None:
    """Print a table."""
    preload_openblas()
    import mlx.core as mx

    from engine.prepare import eager_on_cpu
    from engine.use.chosen import choose

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    chosen = choose(parser.parse_args().run)
    with eager_on_cpu():
        exact = logits(chosen, mx.float32, mx.float32, "apart")
        row("float32", "fused, once", exact, logits(chosen, mx.float32, mx.float32, "once"))
        for kind in (mx.float16, mx.bfloat16):
            name = str(kind).rpartition(".")[2]
            wide = logits(chosen, kind, mx.float32, "apart")
            narrow = logits(chosen, kind, kind, "apart")
            row(name, "base and adapter, in 16 bits / in 32", wide, narrow)
            for way in ("twice", "once"):
                row(name, f"fused, {way}, in 32 bits", wide, logits(chosen, kind, mx.float32, way))
                row(name, f"fused, {way}, in 16 bits", narrow, logits(chosen, kind, kind, way))


def logits(chosen: Chosen, stored: Any, computed: Any, way: Way) -> np.ndarray[Any, Any]:
    """Return the logits of weights of one type, computed in another; ``[T, V]``."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    from engine.use import fuse
    from engine.use.chosen import base_files
    from engine.use.wardrobe import Wardrobe

    files = base_files(chosen)
    model, tokenizer, _ = fuse.load(files, chosen)
    model.set_dtype(stored)
    wardrobe = Wardrobe(model, tokenizer, files)
    wardrobe.put_on(chosen)
    if way != "apart":
        wardrobe.forget()
        for name, module in [(n, m) for n, m in model.named_modules() if hasattr(m, "fuse")]:
            made = module.fuse() if way == "twice" else fuse.rounded_once(module)
            mx.eval(made.parameters())
            model.update_modules(tree_unflatten([(name, made)]))
    model.set_dtype(computed)
    return fuse.logits(model, tokenizer)


def row(kind: str, what: str, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
    """Print how far two are apart."""
    apart = np.abs(one - other)
    top = np.abs(one).max()
    same = np.mean(one.argmax(-1) == other.argmax(-1))
    print(
        f"| {kind} | {what} | {apart.max():.1e} | {apart.max() / top:.1e} | "
        f"{apart.mean() / top:.1e} | {same:.0%} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
