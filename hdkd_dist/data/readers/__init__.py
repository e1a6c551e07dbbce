"""The readers of prepared data sets: FFCV's loader, and one in plain torch."""
