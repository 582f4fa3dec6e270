"""Generated video of any length with exact masks."""
