"""A run's configuration: one JSON file becomes validated settings."""
