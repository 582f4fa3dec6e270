"""The command line. Each command is a file of its own, registered by being imported."""

from mnemask.cli import demo, doctor, evaluate, inspect, score, segment, train
from mnemask.cli.app import app, main

__all__ = ["app", "demo", "doctor", "evaluate", "inspect", "main", "score", "segment", "train"]
