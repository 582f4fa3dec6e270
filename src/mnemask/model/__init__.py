"""The network, its weights, and the way of a frame into and out of it."""
