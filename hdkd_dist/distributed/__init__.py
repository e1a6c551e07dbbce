"""Ranks, and what happens when one of them dies or is told to stop."""
