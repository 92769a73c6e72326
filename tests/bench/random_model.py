"""Writes a model of random weights as mlx-lm reads it: ``python -m tests.bench.random_model``.

uv run python -m tests.bench.random_model qwen2.5-1.5b FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.blas import preload_openblas


def write(shape: str, folder: Path) -> None:
    """Write weights and configuration; float16 on a GPU, float32 without one."""
    preload_openblas()
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from tests.bench.shapes import SHAPES, build

    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    model = build(shape, mx.float32 if on_cpu else mx.float16)
    folder.mkdir(parents=True)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = SHAPES[shape] | {"max_position_embeddings": 32768}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
