"""Prepared data sets as streams in the hot loop, whatever reads them."""
