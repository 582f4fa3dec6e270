"""The command line. Each command is a file of its own, registered by being imported."""

# In the order in which `mnemask --help` lists them.
# isort: off
from mnemask.cli import segment, doctor, inspect, compare, score, evaluate, experiment, train, train_clicks
from mnemask.cli import bench, export, demo
from mnemask.cli.app import app, main
# isort: on

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
    "train_clicks",
]
