"""The morning report: what a run did, in facts, in words and as a page. Knows no MLX."""
