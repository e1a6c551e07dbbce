"""Claims held against finished runs: comparisons, intervals, power, verdicts, looks, the page."""
