"""Training of weights on photographs and clips."""
