"""A run of the whole, with its settings: the code behind the command `ct-rate-pairs`."""
