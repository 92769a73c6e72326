"""What a person gets: the wheel, and what the README promises."""
