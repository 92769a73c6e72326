"""Fixtures of the model's own tests."""

from tests.smollm2.fixture import smollm2

__all__ = ["smollm2"]
