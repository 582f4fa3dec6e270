"""Benchmarks: policies scored on annotated videos."""
