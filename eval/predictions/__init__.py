"""A file of generated reports, and what it was made with."""
