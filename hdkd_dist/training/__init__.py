"""Training one run: build, Algorithm 1 in a loop, measurements, and what the run leaves."""
