"""Shows and steers: the command line and the dashboard. Knows nothing of MLX."""
