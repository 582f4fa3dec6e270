"""Masks made smaller by leaving out rows and columns lie beside their pictures until they are put back."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mnemask.datasets.real_video import VIDEO_FOLDERS
from mnemask.datasets.shrunk_masks import realign

WHOLE, SMALL = (480, 854), (400, 712)


def ellipses(size):
    """Two objects and a void area at any size, from their middles and half widths as parts of the frame's sides."""
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / np.array(size)[:, None, None]
    labels = np.zeros(size, np.uint8)
    for label, (row, column, half) in {1: (0.4, 0.25, 0.2), 7: (0.7, 0.6, 0.15), 255: (0.3, 0.8, 0.1)}.items():
        labels[np.hypot(y - row, x - column) < half] = label
    return labels


def middles(labels):
    """x and y of each label's middle."""
    return np.array([np.argwhere(labels == label).mean(0)[::-1] for label in (1, 7, 255)])


@pytest.mark.parametrize(("rows", "size"), [(400, SMALL), (360, (360, 640))])
def test_objects_are_put_back_to_where_they_are(rows, size):
    shrunk = cv2.resize(ellipses(WHOLE), size[::-1], interpolation=cv2.INTER_NEAREST)
    true = ellipses(size)
    restored = realign(shrunk, (480, rows))
    assert np.all(middles(shrunk) - middles(true) > 0.3)
    assert np.abs(middles(restored) - middles(true)).max() < 0.2
    assert np.unique(restored).tolist() == [0, 1, 7, 255]
    assert np.count_nonzero(restored != true) < 0.75 * np.count_nonzero(shrunk != true)


def test_masks_of_another_height_and_of_other_sets_stay_as_they_are():
    labels = ellipses(SMALL)
    assert realign(labels, None) is labels
    assert realign(labels, (480, 336)) is labels


def test_videos_of_the_sets_that_were_made_so_are_put_back_when_read(shared_data):
    (folder,) = (each for each in VIDEO_FOLDERS if each.name == "davis2016_train")
    video = folder.open(shared_data / "video_train")[0]
    as_stored = replace(video, shrunk=None).read_labels(0)
    assert np.array_equal(video.read_labels(0), realign(as_stored, (480, 400)))
    assert not np.array_equal(video.read_labels(0), as_stored)
