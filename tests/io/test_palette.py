import numpy as np

from mnemask.io import colors_of, davis_palette


def test_the_palette_is_that_of_davis():
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128),
                6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 15: (192, 128, 128),
                20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    palette = davis_palette()
    assert palette.shape == (256, 3)
    assert {index: tuple(palette[index].tolist()) for index in expected} == expected


def test_every_id_has_its_own_color():
    assert len(np.unique(davis_palette(65_536), axis=0)) == 65_536


def test_labels_take_their_colors():
    labels = np.array([[0, 1], [300, 65_535]])
    assert np.array_equal(colors_of(labels), davis_palette(65_536)[labels])
