"""Writes reports of scans, with the confidence and the evidence of each finding."""
