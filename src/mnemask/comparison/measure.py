"""The numbers of a comparison: agreement, where policies differ most, scores, cost, and Pareto-optimal policies."""

import itertools
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from mnemask.comparison.frames import Clip
from mnemask.comparison.track import PolicyFolder, PolicyRun, WayBack, overlap
from mnemask.datasets.annotated import void_of
from mnemask.datasets.mask_checks import TrueMaskChecks
from mnemask.errors import InputError
from mnemask.evaluation.tables import Row
from mnemask.io.atomic import safe_name
from mnemask.io.label_files import Labels, label_paths, labels_by_name, only_annotated, read_labels
from mnemask.metrics import VOID, Protocol, Report, SequenceScorer
from mnemask.version import __version__

log = logging.getLogger(__name__)

MOST_MOMENTS = 6
ALIKE = 0.98  # frames in which policies agree more than this are not shown as differences

Pair = tuple[str, str]


def agreements(
    folders: Mapping[str, PolicyFolder], clip: Clip, object_ids: Sequence[int], on_frame: Callable[[], None]
) -> dict[Pair, list[float]]:
    """Returns the overlap of the masks of each pair of policies in each frame: J, the mean over the objects."""
    values: dict[Pair, list[float]] = {pair: [] for pair in itertools.combinations(folders, 2)}
    for name in clip.names:
        labels = {policy: folder.labels(name) for policy, folder in folders.items()} if values else {}
        for (one, other), list_of in values.items():
            list_of.append(overlap(labels[one], labels[other], object_ids))
        on_frame()
    return values


def moments(agreement: Mapping[Pair, Sequence[float]], num_frames: int) -> list[tuple[int, float]]:
    """Returns the frames in which the policies agree least, with the mean agreement there, in order of time.

    They are at least a twentieth of the video apart, so that a single disagreement is not shown six times.
    """
    if not agreement:
        return []
    mean: Float[np.ndarray, " T"] = np.mean([list(values) for values in agreement.values()], axis=0)
    apart = max(num_frames // 20, 2)
    chosen: list[int] = []
    for index in np.argsort(mean, kind="stable").tolist():
        if len(chosen) == MOST_MOMENTS or mean[index] > ALIKE:
            break
        if all(abs(index - other) >= apart for other in chosen):
            chosen.append(index)
    return [(index, float(mean[index])) for index in sorted(chosen)]


@dataclass(frozen=True, slots=True)
class Truth:
    """True masks of all or some frames of the video.

    Attributes:
        files: the mask files by the index of their frame, in order.
        protocol: "davis2016" if the masks are black and white and so show one object, else "davis2017".
        void: the value of pixels that are not scored; None if 255 is an object's id.
    """

    files: Mapping[int, Path]
    protocol: Protocol
    void: int | None = VOID

    @classmethod
    def from_folder(cls, folder: Path, clip: Clip) -> "Truth":
        """Returns the masks of a folder, which have the names of the frames.

        Raises:
            InputError: there is no such folder, it has too few masks of these frames, a mask has another size, or no
                mask shows an object.
            MaskError: a mask has soft edges, or a palette that contradicts another mask's.
        """
        if not folder.exists():
            raise InputError(
                f"there is no folder {folder} of true masks", "give one with PNGs named like the frames (--gt)"
            )
        found = labels_by_name(only_annotated(label_paths(folder)), list(clip.names), range(len(clip.names)))
        by_name = {safe_name(name): path for name, path in found.items()}
        files = {index: by_name[name] for index, name in enumerate(clip.names) if name in by_name}
        if others := [name for name in by_name if name not in clip.names]:
            log.warning("%d true masks in %s match no frame of this video, first %s", len(others), folder, others[0])
        if len(files) < 3:
            raise InputError(
                f"{folder} has true masks of only {len(files)} of this video's frames; their names must be among "
                f"{clip.names[0]}.png to {clip.names[-1]}.png",
                "give 3 or more with such names, since the first and the last are not scored",
            )
        shown: set[int] = set()
        checks = TrueMaskChecks()
        for path in files.values():
            labels = read_labels(path)
            if labels.shape != clip.size:
                raise InputError(
                    f"{path} is {labels.shape}, but the video is {clip.size} (height, width)",
                    "give masks of the video's size",
                )
            checks.add(path, labels)
            shown |= set(np.unique(labels).tolist()) - {0}
        if not shown:
            raise InputError(f"the true masks in {folder} show no object", "give masks of this video's objects")
        void = void_of(files.values()) if VOID in shown else VOID
        return cls(files, "davis2016" if shown == {VOID} else "davis2017", void)

    def refuse_other_ids(self, to_come: Mapping[int, Collection[int]]) -> None:
        """Raises InputError if an object that will be tracked is in no true mask of the frames in which it is.

        Only objects in both can be scored.

        Args:
            to_come: the ids of the objects that will be given, by frame.
        """
        if self.protocol == "davis2016":
            return
        last_shown: dict[int, int] = {}
        for index, path in self.files.items():
            last_shown |= dict.fromkeys(set(np.unique(read_labels(path)).tolist()) - {0, self.void}, index)
        folder = next(iter(self.files.values())).parent
        for object_id, given in sorted(_first_given(to_come).items()):
            if object_id not in last_shown:
                there = ", ".join(map(str, sorted(last_shown)))
                raise InputError(
                    f"object {object_id} is given, but the true masks in {folder} show {there} (--gt)",
                    "give each object its id in the true masks, as in --at 0:ID=MASK",
                )
            if last_shown[object_id] < given:
                raise InputError(
                    f"object {object_id} is given in frame {given}, but the last of the true masks in {folder} that "
                    f"shows it is of frame {last_shown[object_id]} (--gt)",
                    "give the object earlier, or true masks of later frames",
                )

    def labels(self, index: int, object_ids: Sequence[int]) -> Labels:
        """Returns the true object id at each pixel (1 if the protocol is "davis2016"), with other objects as 0."""
        labels = read_labels(self.files[index])
        if self.protocol == "davis2016":
            return (labels > 0).astype(np.uint8) if object_ids else np.zeros(labels.shape, np.uint8)
        counted = [*object_ids] if self.void is None else [*object_ids, self.void]
        return np.where(np.isin(labels, counted), labels, 0).astype(labels.dtype)

    def score(self, folder: PolicyFolder, run: PolicyRun, clip: Clip) -> Report:
        """Returns J and F of a policy's masks.

        An object is scored from the true mask after the first one that shows it, once it has been given, to the last
        but one.

        Raises:
            InputError: the true masks show no tracked object, or one in too few frames.
            ObjectIdError: an object was tracked that the true masks do not show.
        """
        scorer = SequenceScorer(run.policy, self.protocol, late_objects=True, void=self.void)
        for index, path in self.files.items():
            # A tracker does not know an object that it has not been given.
            scorer.add(self.labels(index, run.tracked_at(index)), folder.labels(clip.names[index]), path.name)
        return scorer.report()

    def curve(self, report: Report, num_frames: int) -> list[float | None]:
        """Returns J&F of each frame, the mean over the objects; None for frames without a score."""
        values: dict[int, list[float]] = {}
        annotated = list(self.files)
        for score in report.objects:
            # An object is scored from the annotated frame after its first to the last but one.
            frames = annotated[len(annotated) - 1 - len(score.region_frames) : -1]
            for index, region, boundary in zip(frames, score.region_frames, score.boundary_frames, strict=True):
                values.setdefault(index, []).append((region + boundary) / 2)
        return [float(np.mean(values[index])) if index in values else None for index in range(num_frames)]


def _first_given(given: Mapping[int, Collection[int]]) -> dict[int, int]:
    """Returns the first frame in which each object is given, by id."""
    return {object_id: frame for frame in sorted(given, reverse=True) for object_id in given[frame]}


def undominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Returns for each (cost, gain) whether it is Pareto-optimal: no different point is at least as good in both."""

    def beaten(mine: tuple[float, float]) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] >= mine[1] for other in points)

    return [not beaten(point) for point in points]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of policies on one video.

    Attributes:
        video: the video's name.
        clip: its frames.
        settings: the settings that all policies share.
        runs: the run of each policy, in the order given.
        agreement: the agreement of each pair of policies in each frame.
        moments: the frames in which the policies agree least, and the mean agreement there.
        scores: J and F by policy; empty without true masks.
        curves: J&F of each frame by policy, None for frames that are not scored; empty without true masks.
        ways_back: forward-backward consistency by policy; empty if it was not computed.
    """

    video: str
    clip: Clip
    settings: Mapping[str, Any]
    runs: Mapping[str, PolicyRun]
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
        """The measure by which policies are ranked: "J&F" with true masks, "consistency" if computed, or None."""
        if self.scores:
            return "J&F"
        return "consistency" if self.ways_back else None

    def quality(self, policy: str) -> float | None:
        """Returns the score by which a policy is ranked, from 0 to 1; None without a score."""
        if self.scores:
            return _known(self.scores[policy].j_and_f)
        return self.ways_back[policy].consistency if self.ways_back else None

    def agreement_of(self, policy: str) -> float | None:
        """Returns a policy's agreement with the others, the mean over frames and policies; None if it is alone."""
        pairs = [fmean(values) for pair, values in self.agreement.items() if policy in pair]
        return fmean(pairs) if pairs else None

    def rows(self) -> list[Row]:
        """Returns a row for each policy, with scores from 0 to 1."""
        return [self._row(run) for run in self.runs.values()]

    def _row(self, run: PolicyRun) -> Row:
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
            "write on growth": run.write_on_growth,
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
        """Returns the overlap of the forward and backward pass in each frame; None before the first given mask."""
        known = self.ways_back[policy].frames
        return [None] * (len(self.clip) - len(known)) + list(known)

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as values that JSON can hold, without the `looks`, which are in each result.json."""
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
