"""Numbers from arrays and texts. The plain modules of this room are shipped beside the `evaluate` scripts."""
