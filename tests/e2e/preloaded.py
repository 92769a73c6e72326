"""What every process of a crash test has loaded before it begins, so that it begins at once."""

from engine.blas import preload_openblas

preload_openblas()

import engine.train  # noqa: E402 - MLX must find the faster BLAS there
from engine.session import Session  # noqa: E402

__all__ = ["Session", "engine"]
