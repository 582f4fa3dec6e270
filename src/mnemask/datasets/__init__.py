"""Where clips with true masks come from: the benchmarks, photographs, and drawings."""
