"""The command line. Importing a module registers its commands."""

# In the order in which `mnemask --help` lists them.
# isort: off
from mnemask.cli import segment, render, batch, studio, project, doctor, inspect, compare, evaluate
from mnemask.cli import experiment, train, bench, export, demo
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
    "segment",
    "studio",
    "train",
]
