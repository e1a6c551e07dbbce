"""Checkpoints: their files, what they hold, resuming from them, and when they are saved."""
