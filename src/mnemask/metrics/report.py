"""Turns scores per frame into the numbers of a table: mean, recall and decay per object, then means over objects."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from mnemask.errors import InputError

RECALL_THRESHOLD = 0.5
RESAMPLINGS, LEVEL = 2000, 0.95  # of a bootstrap interval; 2000 determine the third digit


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a measure over one object's frames.

    Attributes:
        mean: average over the frames, 0 to 1.
        recall: fraction of the frames above 0.5.
        decay: mean of the first quarter minus mean of the last; positive if the object is gradually lost.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: Float[np.ndarray, " T"], official_decay: bool = False) -> Statistics:
    """Returns mean, recall and decay of one object's scores, in the order of its frames.

    As in the DAVIS benchmark, the quarters share the frame at their edge, and a NaN is ignored by mean and decay but
    counts as a miss in recall.

    Args:
        values: scores from 0 to 1, NaN if there is none.
        official_decay: whether to reproduce the official tool's error: it keeps the edges of the quarters in 8 bits, so
            that beyond 256 frames its decay compares the wrong frames, or none (NaN).

    Raises:
        InputError: if there are no frames.
    """
    if not len(values):
        raise InputError("there are no scores to average", "give at least one scored frame")
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    if official_decay:
        edges %= 256
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return Statistics(
        mean=_mean(values), recall=float(np.mean(values > RECALL_THRESHOLD)), decay=_mean(first) - _mean(last)
    )


def _mean(values: Float[np.ndarray, " T"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The scores of one object in one sequence.

    Attributes:
        sequence: the sequence's name.
        object_id: the object's label in the truth.
        region: statistics of J.
        boundary: statistics of F.
        region_frames: J of each scored frame.
        boundary_frames: F of each scored frame.
    """

    sequence: str
    object_id: int
    region: Statistics
    boundary: Statistics
    region_frames: tuple[float, ...]
    boundary_frames: tuple[float, ...]

    @classmethod
    def from_frames(
        cls,
        sequence: str,
        object_id: int,
        region_frames: Sequence[float],
        boundary_frames: Sequence[float],
        official_decay: bool = False,
    ) -> "ObjectScore":
        """Returns the score of an object from its J and F in each frame."""
        return cls(
            sequence,
            object_id,
            statistics(np.asarray(region_frames, np.float64), official_decay),
            statistics(np.asarray(boundary_frames, np.float64), official_decay),
            tuple(region_frames),
            tuple(boundary_frames),
        )

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.region.mean + self.boundary.mean) / 2


MEASURES: Mapping[str, Callable[[ObjectScore], float]] = {
    "J&F": lambda score: score.j_and_f,
    "J": lambda score: score.region.mean,
    "F": lambda score: score.boundary.mean,
}


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of a set of sequences. Overall numbers are means over objects, regardless of their size or length.

    Attributes:
        objects: one score for each object, by sequence.
        protocol: the rules by which they were scored.
        notes: sentences about what these numbers leave out; empty if they leave out nothing.

    Example:
        >>> score = ObjectScore.from_frames("camel", 1, [0.9, 0.8], [1.0, 0.9])
        >>> round(Report((score,), "davis2016").j_and_f, 3)
        0.9
    """

    objects: tuple[ObjectScore, ...]
    protocol: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.objects:
            raise InputError(
                "a report needs at least one scored object, but there is none", "score a sequence that shows one"
            )

    @classmethod
    def merged(cls, reports: Iterable["Report"], notes: Sequence[str] = ()) -> "Report":
        """Returns one report over the objects of several, which must share a protocol."""
        reports = list(reports)
        protocols = sorted({report.protocol for report in reports})
        if len(protocols) > 1:
            raise InputError(
                f"scores by different protocols ({', '.join(protocols)}) cannot be averaged", "use one protocol"
            )
        objects = tuple(score for report in reports for score in report.objects)
        all_notes = (*notes, *(note for report in reports for note in report.notes))
        return cls(objects, protocols[0] if protocols else "", all_notes)

    @property
    def region(self) -> Statistics:
        """J's mean, recall and decay, averaged over objects."""
        return _average([score.region for score in self.objects])

    @property
    def boundary(self) -> Statistics:
        """F's mean, recall and decay, averaged over objects."""
        return _average([score.boundary for score in self.objects])

    @property
    def j_and_f(self) -> float:
        """Mean of J and F over objects: the number that methods are ranked by."""
        return (self.region.mean + self.boundary.mean) / 2

    @property
    def by_sequence(self) -> dict[str, tuple[ObjectScore, ...]]:
        """The objects' scores by the name of their sequence, in order."""
        groups: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            groups.setdefault(score.sequence, []).append(score)
        return {name: tuple(scores) for name, scores in groups.items()}

    def object_scores(self, measure: str = "J&F") -> dict[str, dict[int, float]]:
        """Returns a measure of each object by sequence and id, 0 to 1; objects for which it is NaN are left out.

        Args:
            measure: "J&F", "J" or "F".
        """
        of = MEASURES[measure]
        named = {name: {score.object_id: of(score) for score in scores} for name, scores in self.by_sequence.items()}
        known = {name: {key: value for key, value in each.items() if value == value} for name, each in named.items()}
        return {name: each for name, each in known.items() if each}

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of J&F over resampled sequences.

        Raises:
            InputError: if there are fewer than two sequences.
        """
        groups = self.by_sequence.values()
        means = np.array([np.mean([score.j_and_f for score in scores]) for scores in groups])
        counts = np.array([len(scores) for scores in groups], np.float64)
        return bootstrap_interval(means, weights=counts)

    def rows(self, per: Literal["sequence", "object"] = "sequence") -> list[dict[str, str | float]]:
        """Returns a row for each sequence (the mean of its objects) or object and a last one, "all", over all objects.

        The columns have the names of the official tool's tables; values are from 0 to 1.
        """
        if per == "object":
            named = [(f"{score.sequence}_{score.object_id}", [score]) for score in self.objects]
        else:
            named = [(name, list(scores)) for name, scores in self.by_sequence.items()]
        return [_row(name, scores) for name, scores in [*named, ("all", list(self.objects))]]

    def to_dict(self, frames: bool = False) -> dict[str, object]:
        """Returns the report as plain values that JSON can hold; `frames` adds J and F of each frame."""
        objects = []
        for score, row in zip(self.objects, self.rows("object"), strict=False):
            entry: dict[str, object] = {"sequence": score.sequence, "object": score.object_id, **_plain(row)}
            entry["num_frames"] = len(score.region_frames)
            if frames:
                entry |= {"J": list(score.region_frames), "F": list(score.boundary_frames)}
            objects.append(entry)
        *sequences, overall = self.rows("sequence")
        several = len(sequences) > 1
        return {
            "protocol": self.protocol,
            "all": _plain(overall) | {"J&F-Interval": list(self.interval()) if several else None},
            "sequences": {str(row["name"]): _plain(row) for row in sequences},
            "objects": objects,
            "notes": list(self.notes),
        }

    def to_json(self, frames: bool = False) -> str:
        """Returns the report as JSON text; a score that does not exist is null."""
        return json.dumps(self.to_dict(frames), indent=2, allow_nan=False)


def bootstrap_interval(
    values: Float[np.ndarray, " S"], weights: Float[np.ndarray, " S"] | None = None
) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean of values, always the same for the same values.

    Args:
        values: one score per sequence. Sequences are resampled, not frames or objects, which are alike within one.
        weights: the weight of each value, such as its number of objects; 1 by default.

    Raises:
        InputError: if there are fewer than two values.
    """
    if len(values) < 2:
        raise InputError(f"{len(values)} sequence does not show how much scores vary", "give two or more sequences")
    weights = np.ones(len(values)) if weights is None else weights
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLINGS, len(values)))
    means = (values * weights)[drawn].sum(1) / weights[drawn].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _average(parts: list[Statistics]) -> Statistics:
    mean, recall, decay = np.mean([(part.mean, part.recall, part.decay) for part in parts], axis=0).tolist()
    return Statistics(mean, recall, decay)


def _row(name: str, scores: list[ObjectScore]) -> dict[str, str | float]:
    row: dict[str, str | float] = {"name": name, "J&F-Mean": float(np.mean([score.j_and_f for score in scores]))}
    for letter, part in ("J", [s.region for s in scores]), ("F", [s.boundary for s in scores]):
        average = _average(part)
        row |= {f"{letter}-Mean": average.mean, f"{letter}-Recall": average.recall, f"{letter}-Decay": average.decay}
    return row


def _plain(row: dict[str, str | float]) -> dict[str, float | None]:
    """Returns a row's numbers with None for NaN, which JSON does not have."""
    return {key: None if math.isnan(value) else value for key, value in row.items() if isinstance(value, float)}
