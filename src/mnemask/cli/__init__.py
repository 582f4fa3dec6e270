"""The command line. Each command is a file of its own, registered by being imported."""

from mnemask.cli import bench, compare, demo, doctor, evaluate, experiment, export, inspect, score, segment, train
from mnemask.cli.app import app, main

__all__ = [
    "app",
    "bench",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "experiment",
    "export",
    "inspect",
    "main",
    "score",
    "segment",
    "train",
]
