"""Claims held against finished runs: quantities, comparisons, intervals, verdicts, the page."""
