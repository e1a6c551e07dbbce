"""Distributed training of multi-exit networks with Harmonized Dense Knowledge Distillation."""

__version__ = "0.1.0"
