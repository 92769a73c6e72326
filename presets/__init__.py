"""Ready configurations, and the demo's model and data."""
