"""Prepared data sets: drawing, writing, and reading them as streams with FFCV."""
