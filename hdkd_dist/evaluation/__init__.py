"""Measuring finished runs: accuracy per exit, thresholds, budgets; needs FFCV."""
