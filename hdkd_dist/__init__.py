"""hdkd_dist: distributed training of multi-exit networks with harmonized dense knowledge distillation."""

__version__ = "0.1.0"
