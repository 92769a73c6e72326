"""The engine knows no screen, and the screen reaches MLX through the engine only."""
