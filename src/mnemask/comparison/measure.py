"""How far policies agree, when they part, how good they are against the truth, and which of them nothing dominates."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mnemask.comparison.store import Clip
from mnemask.comparison.track import PolicyFolder, Run, overlap
from mnemask.datasets.annotated import read_annotation
from mnemask.errors import InputError
from mnemask.metrics import VOID, Protocol, Report, SequenceScorer
from mnemask.video.files import safe_name
from mnemask.video.label_files import Labels, label_paths, labels_by_name

MOST_MOMENTS = 6
ALIKE = 0.98  # a moment at which policies agree more than this is none

Pair = tuple[str, str]


def agreements(
    folders: Mapping[str, PolicyFolder], clip: Clip, object_ids: Sequence[int], on_frame: Callable[[], None]
) -> dict[Pair, list[float]]:
    """Returns for each pair of policies and each frame how far their masks overlap: J, the mean over the objects."""
    values: dict[Pair, list[float]] = {pair: [] for pair in itertools.combinations(folders, 2)}
    for name in clip.names:
        labels = {policy: folder.labels(name) for policy, folder in folders.items()} if values else {}
        for (one, other), list_of in values.items():
            list_of.append(overlap(labels[one], labels[other], object_ids))
        on_frame()
    return values


def moments(agreement: Mapping[Pair, Sequence[float]], num_frames: int) -> list[tuple[int, float]]:
    """Returns frames at which the policies agree least, and the mean agreement there, in order of time.

    They are at least a twentieth of the video apart, so that one quarrel is not shown six times.
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
    """True masks of some frames of the video, or of all.

    Attributes:
        files: by the index of their frame, in order.
        protocol: "davis2016" where the masks are black and white, so that all they show is one object.
    """

    files: Mapping[int, Path]
    protocol: Protocol

    @classmethod
    def of(cls, folder: Path, clip: Clip) -> "Truth":
        """Returns the masks of a folder, which are named as the frames are.

        Raises:
            InputError: there is no such folder, it has too few masks of these frames, or one of another size.
        """
        if not folder.exists():
            raise InputError(f"there is no folder {folder} of true masks; give one with a PNG for each frame (--gt)")
        by_name = {
            safe_name(name): path for name, path in labels_by_name(label_paths(folder), list(clip.names)).items()
        }
        files = {index: by_name[name] for index, name in enumerate(clip.names) if name in by_name}
        if len(files) < 3:
            raise InputError(
                f"{folder} has true masks of {len(files)} frames of this video, whose frames are {clip.names[0]}.png "
                f"to {clip.names[-1]}.png; name 3 or more so, since the first and the last are not scored"
            )
        for path in files.values():
            labels = read_annotation(path)
            if labels.shape != clip.size:
                raise InputError(
                    f"{path} is {labels.shape} and the video {clip.size} (height, width); give masks of the video's "
                    "size"
                )
            if shown := set(np.unique(labels).tolist()) - {0}:
                return cls(files, "davis2016" if shown == {VOID} else "davis2017")
        raise InputError(f"the true masks in {folder} show no object; give the masks of this video's objects")

    def labels(self, index: int, object_ids: Sequence[int]) -> Labels:
        """Returns the true object id at each pixel (1 where all is one); what nobody tracks is background."""
        labels = read_annotation(self.files[index])
        if self.protocol == "davis2016":
            return (labels > 0).astype(np.uint8)
        return np.where(np.isin(labels, [*object_ids, VOID]), labels, 0).astype(labels.dtype)

    def score(self, folder: PolicyFolder, run: Run, clip: Clip) -> Report:
        """Returns J and F of a policy's masks; the first and the last true mask are not scored.

        Raises:
            InputError: the true masks show none of the tracked objects, or too seldom.
            ObjectIdError: an object was tracked that they do not show.
        """
        scorer = SequenceScorer(run.policy, self.protocol, late_objects=True)
        for index, path in self.files.items():
            scorer.add(self.labels(index, run.object_ids), folder.labels(clip.names[index]), path.name)
        return scorer.report()

    def curve(self, report: Report, num_frames: int) -> list[float | None]:
        """Returns J&F of each frame, the mean over the objects; None where there is no score."""
        values: dict[int, list[float]] = {}
        annotated = list(self.files)
        for score in report.objects:
            # An object is scored from the frame after its first to the last but one.
            frames = annotated[len(annotated) - 1 - len(score.region_frames) : -1]
            for index, region, boundary in zip(frames, score.region_frames, score.boundary_frames, strict=True):
                values.setdefault(index, []).append((region + boundary) / 2)
        return [float(np.mean(values[index])) if index in values else None for index in range(num_frames)]


def undominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Returns of each (cost, gain) whether no other costs no more and gains no less, one of them truly."""

    def beaten(mine: tuple[float, float]) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] >= mine[1] for other in points)

    return [not beaten(point) for point in points]
