"""The thesis's tables and figures, and the ablations it leaves open, on any benchmark."""

from mnemask.experiments.catalogue import EXPERIMENTS
from mnemask.experiments.plan import Experiment, Run
from mnemask.experiments.run import Findings, run_experiment

__all__ = ["EXPERIMENTS", "Experiment", "Findings", "Run", "run_experiment"]
