"""Every architecture of mlx-lm in miniature: layer by layer gives the whole graph's gradients."""

from engine.blas import preload_openblas

# Every module in here uses MLX, and the fast BLAS must be in the process before MLX is.
preload_openblas()
