"""J, F and the tables made of them: how good masks are, by the rules of the DAVIS benchmark."""

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
