"""A run's folder: its names, files, readers and writers; no training and no pictures."""
