"""The memory of a video: what is stored, how it is read, and what is evicted."""
