"""Everything that shows the program to work: `uv run pytest`."""
