"""What every process of a crash test has loaded before it begins, so that it begins at once."""

import importlib

from engine.blas import preload_openblas

preload_openblas()
# Only now: MLX must find the faster BLAS there.
importlib.import_module("engine.train")
