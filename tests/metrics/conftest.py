import math
import sys
import types
import warnings

import numpy as np
import pytest


class Oracle:
    """trackeval's J and F, an independent implementation that equals the DAVIS tool, for bool masks."""

    def __init__(self) -> None:
        from pycocotools import mask
        from trackeval.metrics import JAndF

        self._rle, self._metric = mask, JAndF()

    def _encode(self, masks):
        return [[self._rle.encode(np.asfortranarray(mask, np.uint8))] for mask in masks]

    def region(self, prediction, truth):
        return float(self._metric._compute_j(self._encode([truth]), self._encode([prediction]), 1, 1, 1)[0, 0, 0])

    def boundary(self, prediction, truth, bound_ratio=0.008):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
            return float(
                self._metric._compute_f(self._encode([truth]), self._encode([prediction]), 0, 0, bound_ratio)[0]
            )

    def outline(self, mask):
        return self._metric._seg2bmap(mask).astype(bool)

    def sequence(self, predictions, truths):
        n = len(truths)
        data = {
            "num_timesteps": n,
            "num_tracker_ids": 1,
            "num_gt_ids": 1,
            "gt_dets": self._encode(truths),
            "tracker_dets": self._encode(predictions),
            "gt_ids": [[0]] * n,
            "tracker_ids": [[0]] * n,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty quarter, past 256 frames
            return self._metric.eval_sequence(data)


def disk(radius):
    offsets = np.arange(-radius, radius + 1)
    return np.array([[math.hypot(x, y) <= radius for x in offsets] for y in offsets], np.uint8)


@pytest.fixture(scope="session")
def oracle():
    pytest.importorskip("trackeval", reason="trackeval is not installed; it comes with the dev extra")
    with pytest.MonkeyPatch.context() as patch:
        try:
            import skimage.morphology  # noqa: F401
        except ImportError:  # trackeval takes one function from it, without saying that it needs it
            morphology = types.ModuleType("skimage.morphology")
            morphology.disk = disk
            patch.setitem(sys.modules, "skimage", types.ModuleType("skimage"))
            patch.setitem(sys.modules, "skimage.morphology", morphology)
        yield Oracle()
