"""The thesis's tables and figures, and further ablations, on any benchmark."""

from mnemask.experiments.catalogue import EXPERIMENTS
from mnemask.experiments.plan import Experiment, Run
from mnemask.experiments.run import ExperimentResult, run_experiment

__all__ = ["EXPERIMENTS", "Experiment", "ExperimentResult", "Run", "run_experiment"]
