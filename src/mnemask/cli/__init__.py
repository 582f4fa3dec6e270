"""The command line. Each command is a file of its own, registered by being imported."""

# In the order in which `mnemask --help` lists them.
# isort: off
from mnemask.cli import segment, render, batch, studio, project, doctor, inspect, compare, score, evaluate, experiment
from mnemask.cli import train, train_clicks, bench, export, demo
from mnemask.cli.app import app, main
# isort: on

__all__ = [
    "app",
    "batch",
    "bench",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "experiment",
    "export",
    "inspect",
    "main",
    "project",
    "render",
    "score",
    "segment",
    "studio",
    "train",
    "train_clicks",
]
