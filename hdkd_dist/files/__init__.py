"""Files of any origin: strict JSON in and out, and writing that replaces a file as a whole."""
