"""Runs as one page of HTML, without an account or a network."""
