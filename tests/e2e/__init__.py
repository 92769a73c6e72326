"""The whole program with a real model: its numbers, its files, its screen."""

from engine.blas import preload_openblas

# One module of this package uses MLX, and the fast BLAS must be in the process before MLX is.
preload_openblas()
