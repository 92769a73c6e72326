"""The names that ``report_to`` may have."""

from __future__ import annotations

from engine.errors import did_you_mean

REPORTERS = ("wandb", "swanlab", "trackio", "tensorboard")


def names_in(text: str | None) -> tuple[str, ...]:
    """Split names with commas between them, as mlx-lm does.

    Raises:
        ValueError: when one is not known.
    """
    names = tuple(part.strip().lower() for part in (text or "").split(",") if part.strip())
    for name in names:
        if name not in REPORTERS:
            hint = did_you_mean(name, REPORTERS)
            raise ValueError(f"{name!r} is not one of {', '.join(REPORTERS)}.{hint}")
    return names
