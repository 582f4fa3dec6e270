"""What is remembered of a video, how it is read, and what is forgotten."""
