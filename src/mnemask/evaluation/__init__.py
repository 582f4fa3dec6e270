"""Numbers that can be compared."""
