"""J, F and the tables made of them: how good masks are, by the rules of the DAVIS benchmark."""

from mnemask.metrics.boundary import boundary_f, boundary_map, tolerance_pixels
from mnemask.metrics.region import region_similarity
from mnemask.metrics.report import ObjectScore, Report, Statistics, bootstrap_interval, statistics
from mnemask.metrics.sequence import VOID, Protocol, SequenceScorer, score_sequence

__all__ = [
    "VOID",
    "ObjectScore",
    "Protocol",
    "Report",
    "SequenceScorer",
    "Statistics",
    "bootstrap_interval",
    "boundary_f",
    "boundary_map",
    "region_similarity",
    "score_sequence",
    "statistics",
    "tolerance_pixels",
]
