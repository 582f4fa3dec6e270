"""J and F of one sequence by the rules of DAVIS (Perazzi et al. 2016; Pont-Tuset et al. 2017), frame by frame.

Region similarity J is the intersection over union of two masks. Contour accuracy F: an outline pixel is correct if the
other outline passes within a tolerance, 0.8 % of the image's diagonal. Precision is the fraction of the predicted
outline that is correct, recall that of the true outline, and F their harmonic mean.

There are two protocols. ``davis2016``: everything that is not 0 is the single object. ``davis2017``: each label is an
object, and 255 in the truth is void, which is ignored. In both, as in the benchmark, an object is scored from the frame
after the first one that shows it, which was given, to the last but one.

The objects of a sequence are those of the first annotated frame that shows any; in DAVIS, these are all objects. Those
that the truth shows only later are left out and named in the report's notes; with ``late_objects``, the objects are the
union over frames, for trackers that were given each one when it appeared.
"""

import math
from functools import lru_cache
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Integer, UInt8

from mnemask.errors import InputError, MaskError, ObjectIdError
from mnemask.metrics.report import ObjectScore, Report


def check_pair(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], void: npt.NDArray[Any] | None = None) -> None:
    """Raises MaskError unless all masks are bool arrays [H W] of one size."""
    named = {"prediction": prediction, "truth": truth} | ({} if void is None else {"void": void})
    for name, mask in named.items():
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise MaskError(
                f"the {name} is {mask.dtype} of shape {mask.shape}",
                "expected a bool mask (height, width), such as labels == object_id",
            )
    for name, mask in named.items():
        if mask.shape != truth.shape:
            raise MaskError(
                f"the {name} is {mask.shape[0]}x{mask.shape[1]} (height x width) but the truth is {truth.shape[0]}x"
                f"{truth.shape[1]}",
                "resize it to the truth's size with nearest neighbour first",
            )


def region_similarity(
    prediction: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
) -> float:
    """Returns J, the intersection over the union of two masks, from 0 to 1; two empty masks agree, so they give 1.

    Args:
        prediction: pixels predicted to be the object.
        truth: pixels that are the object.
        void: pixels that are ignored.

    Raises:
        MaskError: if the masks are not bool or differ in size.
    """
    check_pair(prediction, truth, void)
    both, either = prediction & truth, prediction | truth
    if void is not None:
        both, either = both & ~void, either & ~void
    union = np.count_nonzero(either)
    return np.count_nonzero(both) / union if union else 1.0


BOUND_RATIO = 0.008

_WINDOW = np.ones((2, 2), np.uint8)


def boundary_f(
    prediction: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
    bound_ratio: float = BOUND_RATIO,
) -> float:
    """Returns F, the boundary F-measure of two masks, from 0 to 1.

    Two masks without an outline agree (1), one with and one without do not (0). A mask that fills the image has none.

    Args:
        prediction: pixels predicted to be the object.
        truth: pixels that are the object.
        void: pixels that are ignored: they become background in both masks before the outlines are drawn.
        bound_ratio: tolerance as a fraction of the diagonal, rounded up to whole pixels; from 1 on, in pixels.

    Raises:
        MaskError: if the masks are not bool or differ in size.
        InputError: if the tolerance is not positive, or above 1 and not whole.
    """
    check_pair(prediction, truth, void)
    radius = tolerance_pixels(truth.shape[0], truth.shape[1], bound_ratio)
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    rows, columns = _joint_box(prediction, truth)
    predicted, true = outline(prediction[rows, columns]), outline(truth[rows, columns])
    num_predicted, num_true = cv2.countNonZero(predicted), cv2.countNonZero(true)
    if num_predicted == 0 or num_true == 0:
        return 1.0 if num_predicted == num_true else 0.0
    disk = _disk(radius)
    precision = cv2.countNonZero(predicted & cv2.dilate(true, disk)) / num_predicted
    recall = cv2.countNonZero(true & cv2.dilate(predicted, disk)) / num_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def tolerance_pixels(height: int, width: int, bound_ratio: float = BOUND_RATIO) -> int:
    """Returns how far apart, in pixels, two outlines may lie in an image of this size."""
    if bound_ratio >= 1 and float(bound_ratio).is_integer():
        return int(bound_ratio)
    if not 0 < bound_ratio < 1:
        raise InputError(
            f"bound_ratio {bound_ratio} is neither a fraction of the diagonal between 0 and 1 nor a whole number "
            "of pixels",
            f"give {BOUND_RATIO}, as in DAVIS",
        )
    return math.ceil(bound_ratio * math.sqrt(height * height + width * width))


def _joint_box(prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Returns the rows and columns that hold both outlines; the outline lies up to a pixel outside its mask."""
    x, y, width, height = cv2.boundingRect((prediction | truth).view(np.uint8))
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def outline(mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Returns the one pixel wide outline of a mask, 1 on it and 0 elsewhere.

    As in the Berkeley benchmark, a pixel is on it if it differs from its east, south or south-east neighbour. Those
    outside the image do not count, so an object that the image border cuts off has no outline along the border.
    """
    # Maximum minus minimum of a pixel and its three neighbours; OpenCV ignores those outside the image in both.
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    found: UInt8[np.ndarray, "H W"] = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, _WINDOW, anchor=(0, 0))
    return found


@lru_cache(maxsize=64)
def _disk(radius: int) -> UInt8[np.ndarray, "D D"]:
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


Protocol = Literal["davis2016", "davis2017"]

VOID = 255
"""The label of DAVIS 2017 for pixels that count neither as an object nor as background."""


class SequenceScorer:
    """Computes J and F of one sequence's objects; it keeps two numbers per frame and object, never a mask.

    Args:
        name: the sequence's name in the report and in messages.
        protocol: "davis2016" or "davis2017".
        late_objects: whether objects that appear after the first annotated frame are scored too.
        official_decay: whether to reproduce the official tool's decay, which is wrong beyond 256 frames.
        void: the label, in the truth of "davis2017", of pixels that are not scored; None if 255 is an object's id.

    Example:
        >>> scorer = SequenceScorer("square", "davis2016")
        >>> truth = np.zeros((40, 40), np.uint8)
        >>> truth[10:20, 10:20] = 255
        >>> for shift in (0, 0, 5, 0):
        ...     scorer.add(truth, np.roll(truth, shift, axis=1))
        >>> round(scorer.report().region.mean, 3)
        0.667
    """

    def __init__(
        self,
        name: str = "sequence",
        protocol: Protocol = "davis2017",
        late_objects: bool = False,
        official_decay: bool = False,
        void: int | None = VOID,
    ) -> None:
        check_protocol(protocol)
        self.name, self.protocol, self.void = name, protocol, void
        self._single_object = protocol == "davis2016"
        self._late_objects, self._official_decay = late_objects, official_decay
        self._scores: dict[int, list[tuple[float, float]]] = {}
        self._late: set[int] = set()
        self._unknown: set[int] = set()
        self._num_frames = 0

    def add(
        self, truth: Integer[np.ndarray, "H W"], prediction: Integer[np.ndarray, "_ _"], frame: str | None = None
    ) -> None:
        """Scores the next annotated frame.

        Args:
            truth: object id at each pixel, 0 for background.
            prediction: predicted object id at each pixel, of the same size.
            frame: the frame's name in messages; its number by default.

        Raises:
            MaskError: if one of them is not a label image, or their sizes differ.
        """
        check_labels(truth, prediction, f"{self.name}, frame {frame or self._num_frames}")
        self._num_frames += 1
        void: Bool[np.ndarray, "H W"] | None = None
        if self._single_object:
            truth, prediction = (truth != 0).view(np.uint8), (prediction != 0).view(np.uint8)
        elif self.void is not None and (void_pixels := truth == self.void).any():
            void, truth = void_pixels, np.where(void_pixels, 0, truth)
        for object_id, frames in self._scores.items():
            predicted, true = prediction == object_id, truth == object_id
            frames.append((region_similarity(predicted, true, void), boundary_f(predicted, true, void)))
        known = self._scores.keys() | self._late
        if self._scores:
            self._unknown |= _other_ids(prediction, known)
        appeared = _other_ids(truth, known)
        if self._scores and not self._late_objects:
            self._late |= appeared
        else:
            self._scores |= {object_id: [] for object_id in sorted(appeared)}

    def report(self) -> Report:
        """Returns the scores of all objects.

        Raises:
            InputError: if the truth shows no object, or too few frames of it.
            ObjectIdError: if the prediction has ids that the truth does not have.
        """
        known = sorted(self._scores.keys() | self._late)
        if not known:
            raise InputError(
                f"the truth of {self.name} shows no object in its {self._num_frames} frames",
                "leave it out"
                if self._single_object
                else f"score masks of 0 and 255 by --protocol davis2016 (here {VOID} is void), or leave it out",
            )
        if unknown := sorted(self._unknown.difference(known)):
            raise ObjectIdError(
                f"the prediction of {self.name} has object ids {unknown}, but the truth has only {known}",
                "write the truth's ids, or score single objects by davis2016",
            )
        # The last frame is not scored.
        scored = {object_id: frames[:-1] for object_id, frames in sorted(self._scores.items()) if len(frames) > 1}
        if not scored:
            raise InputError(
                f"{self.name} has too few annotated frames ({self._num_frames})",
                "annotate a frame between the first that shows an object and the last, which are not scored",
            )
        left_out = [object_id for object_id in known if object_id not in scored]
        notes = (f"{self.name}: objects {left_out} appear too late to be scored",) if left_out else ()
        objects = tuple(
            ObjectScore.from_frames(
                self.name, object_id, [j for j, _ in frames], [f for _, f in frames], self._official_decay
            )
            for object_id, frames in scored.items()
        )
        return Report(objects, self.protocol, notes)


def check_protocol(protocol: str) -> None:
    """Raises InputError unless there is such a protocol."""
    if protocol not in get_args(Protocol):
        raise InputError(f"there is no protocol {protocol!r}", f"use {' or '.join(get_args(Protocol))}")


def check_labels(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], where: str) -> None:
    """Raises MaskError unless both are whole numbers [H W] of one size; `where` begins the message."""
    for name, labels in ("truth", truth), ("prediction", prediction):
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise MaskError(
                f"{where}: the {name} is {labels.dtype} of shape {labels.shape}",
                "expected whole numbers of shape (height, width), the object id at each pixel",
            )
    if truth.shape != prediction.shape:
        raise MaskError(
            f"{where}: the prediction is {prediction.shape[0]}x{prediction.shape[1]} (height x width) but the "
            f"truth is {truth.shape[0]}x{truth.shape[1]}",
            "write predictions at the truth's size",
        )


def _other_ids(labels: Integer[np.ndarray, "H W"], known: set[int]) -> set[int]:
    """Returns the ids among the labels that are not known."""
    # Finding the unique labels costs as much as the scores; counting the known ones reveals whether there are others.
    if sum(np.count_nonzero(labels == object_id) for object_id in (0, *known)) == labels.size:
        return set()
    return set(np.unique(labels).tolist()) - known - {0}
