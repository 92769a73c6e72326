"""Trains: MLX, files and the operating system. Knows nothing of any screen."""
