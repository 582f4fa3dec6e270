"""J, F and tables of them: the quality of masks by the rules of the DAVIS benchmark."""

from mnemask.metrics.davis import (
    VOID,
    Protocol,
    SequenceScorer,
    boundary_f,
    region_similarity,
    tolerance_pixels,
)
from mnemask.metrics.report import ObjectScore, Report, Statistics, bootstrap_interval, statistics

__all__ = [
    "VOID",
    "ObjectScore",
    "Protocol",
    "Report",
    "SequenceScorer",
    "Statistics",
    "bootstrap_interval",
    "boundary_f",
    "region_similarity",
    "statistics",
    "tolerance_pixels",
]
