"""What came of a comparison, as numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from mnemask.comparison.measure import Pair
from mnemask.comparison.store import Clip
from mnemask.comparison.track import Run, WayBack
from mnemask.evaluation.tables import Row
from mnemask.metrics import Report
from mnemask.version import __version__


@dataclass(frozen=True, slots=True)
class Comparison:
    """Policies on one video.

    Attributes:
        video: what it is called.
        clip: its frames.
        settings: that all policies have in common.
        runs: what came of each policy, in the order asked for.
        agreement: of each pair of policies, in each frame.
        moments: frames where they part, and the mean agreement there.
        scores: J and F by policy; empty without true masks.
        curves: J&F of each frame by policy, None where a frame is not scored; empty without true masks.
        ways_back: forward–backward consistency by policy; empty where it was not asked for.
    """

    video: str
    clip: Clip
    settings: Mapping[str, Any]
    runs: Mapping[str, Run]
    agreement: Mapping[Pair, Sequence[float]]
    moments: Sequence[tuple[int, float]]
    scores: Mapping[str, Report] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    ways_back: Mapping[str, WayBack] = field(default_factory=dict)

    @property
    def object_ids(self) -> list[int]:
        """The objects that were tracked."""
        return sorted({object_id for run in self.runs.values() for object_id in run.object_ids})

    @property
    def measure(self) -> str | None:
        """What policies are ranked by: "J&F" with true masks, else "consistency", else nothing."""
        if self.scores:
            return "J&F"
        return "consistency" if self.ways_back else None

    def quality(self, policy: str) -> float | None:
        """Returns what a policy is ranked by, from 0 to 1."""
        if self.scores:
            return _known(self.scores[policy].j_and_f)
        return self.ways_back[policy].consistency if self.ways_back else None

    def agreement_of(self, policy: str) -> float | None:
        """Returns how far a policy agrees with the others, the mean over frames and policies."""
        pairs = [fmean(values) for pair, values in self.agreement.items() if policy in pair]
        return fmean(pairs) if pairs else None

    def rows(self) -> list[Row]:
        """Returns a row for each policy; scores are from 0 to 1."""
        return [self._row(run) for run in self.runs.values()]

    def _row(self, run: Run) -> Row:
        row: Row = {"policy": run.policy}
        if self.scores:
            report = self.scores[run.policy]
            row |= {
                "J&F": _known(report.j_and_f),
                "J": _known(report.region.mean),
                "F": _known(report.boundary.mean),
            }
        if self.ways_back:
            row |= {"consistency": self.ways_back[run.policy].consistency}
        return row | {
            "agreement": self.agreement_of(run.policy),
            "frames/s": run.frames_per_second,
            "frames held": fmean(run.frames_held),
            "most bytes": max(run.bank_bytes),
            "budget": run.budget,
            "write every": run.write_every,
            "threads": run.threads,
        }

    def frame_rows(self) -> list[Row]:
        """Returns a row for each frame: seconds, bytes and score of each policy, agreement of each pair."""
        columns: dict[str, Sequence[float | None]] = {}
        for policy, run in self.runs.items():
            columns |= {f"{policy} seconds": run.seconds, f"{policy} bytes": run.bank_bytes}
            if self.curves:
                columns[f"{policy} J&F"] = self.curves[policy]
            if self.ways_back:
                columns[f"{policy} there and back"] = self.way_back_curve(policy)
        columns |= {f"{one} | {other} agreement": values for (one, other), values in self.agreement.items()}
        return [
            {"frame": index, **{name: values[index] for name, values in columns.items()}}
            for index in range(len(self.clip))
        ]

    def way_back_curve(self, policy: str) -> list[float | None]:
        """Returns how far the masks of the way there and back overlap in each frame; None before any was given."""
        known = self.ways_back[policy].frames
        return [None] * (len(self.clip) - len(known)) + list(known)

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as JSON holds them, but for the looks into the memory, which are in each result.json."""
        return {
            "mnemask": __version__,
            "video": self.video,
            "frames": len(self.clip),
            "size": self.clip.size,
            "objects": self.object_ids,
            "settings": dict(self.settings),
            "ranked_by": self.measure,
            "policies": [
                {
                    **row,
                    "description": run.description,
                    "scores": self.scores[run.policy].to_dict(frames=True) if self.scores else None,
                    "way_back": asdict(self.ways_back[run.policy]) if self.ways_back else None,
                    "frame_seconds": run.seconds,
                    "frame_bytes": run.bank_bytes,
                }
                for row, run in zip(self.rows(), self.runs.values(), strict=True)
            ],
            "agreement": [
                {"policies": list(pair), "mean": fmean(values), "frames": [round(value, 4) for value in values]}
                for pair, values in self.agreement.items()
            ],
            "moments": [{"frame": index, "agreement": value} for index, value in self.moments],
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
