"""`mnemask studio`: what a folder is taken for."""

import pytest

from mnemask.cli.studio import _is_clip


@pytest.mark.parametrize(
    ("names", "clip"),
    [
        (["0.png", "1.png"], True),
        (["0.png"], False),
        (["a.mp4", "b.mp4"], False),
        (["a.mp4", "a.png", "b.MOV", "b.png"], False),  # masks beside videos, as `mnemask batch` takes them
    ],
)
def test_images_beside_videos_are_no_clip(tmp_path, names, clip):
    for name in names:
        (tmp_path / name).touch()
    assert _is_clip(tmp_path) is clip
