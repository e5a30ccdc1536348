"""Reports against their references."""
