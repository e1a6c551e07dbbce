"""The distributed trainer: configuration, DeepSpeed engine, Algorithm 1, and what a run leaves."""
