"""Does the model look at the scan? How much the likelihood of a report depends on its volume."""
