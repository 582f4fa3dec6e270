"""Pictures that must stay the same: results that were measured on generated video are compared with later ones."""

import numpy as np
import pytest

from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.datasets.synthetic.video import SyntheticVideo

SMALL = (96, 160)
# Of frames 0 and 699: the mean of all bytes of the picture, and how many pixels have which id.
RECORDED = [
    (DrawnVideo, {"num_objects": 3, "seed": 3}, [106.503, 108.954], [[12852, 981, 658, 869], [13245, 426, 785, 904]]),
    (
        DrawnVideo,
        {"num_objects": 4, "lookalikes": True},
        [97.774, 94.127],
        [[12657, 745, 751, 567, 640], [12876, 787, 523, 626, 548]],
    ),
    (
        DrawnVideo,
        {"num_objects": 3, "occlusion": False},
        [100.471, 96.108],
        [[13604, 650, 496, 610], [13673, 666, 437, 584]],
    ),
    (SyntheticVideo, {"seed": 3}, [105.427, 102.432], [[13778, 975, 607], [14427, 927, 6]]),
    (
        SyntheticVideo,
        {"lookalikes": True, "num_occluders": 2, "pace": 3},
        [92.422, 89.551],
        [[14007, 789, 564], [14975, 6, 379]],
    ),
]


@pytest.mark.parametrize(("kind", "settings", "means", "counts"), RECORDED)
def test_pictures_and_masks_are_those_that_were_recorded(kind, settings, means, counts):
    video = kind(700, SMALL, **settings)
    for index, mean, count in zip((0, 699), means, counts, strict=True):
        frame, labels = video[index][:2]
        assert frame.image.double().mean().item() == pytest.approx(mean, abs=0.005)
        assert np.bincount(labels.numpy().ravel()).tolist() == count
