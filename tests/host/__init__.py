"""Tests of engine.host and engine.awake."""
