"""Does the model look? What a report's likelihood owes to its scan."""
