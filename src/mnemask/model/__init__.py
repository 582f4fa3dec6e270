"""The network, its weights, and the conversion of frames to and from it."""
