"""A study of many runs: its plan, its results, and its tables and figures."""
