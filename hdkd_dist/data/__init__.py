"""Reading prepared data sets as streams with FFCV, in the hot loop."""
