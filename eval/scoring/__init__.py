"""Scores of generated reports against reference reports and true labels."""
