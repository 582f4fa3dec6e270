"""What tells one video from another under any name."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnemask.io.sources import digest_of_video, is_same_video


def test_a_folder_whose_uncompressed_pictures_were_exchanged_is_another_video(tmp_path):
    for index in range(40):
        Image.fromarray(np.full((48, 64, 3), index, np.uint8)).save(tmp_path / f"{index}.bmp")
    before = digest_of_video(tmp_path)
    assert digest_of_video(tmp_path) == before
    for index in range(40):
        Image.fromarray(np.full((48, 64, 3), index + 1, np.uint8)).save(tmp_path / f"{index}.bmp")
        assert is_same_video(before, digest_of_video(tmp_path)) or index  # the first alone was repaired
    assert not is_same_video(before, digest_of_video(tmp_path))


def test_what_was_written_before_parts_of_pictures_counted_is_of_the_same_video(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    now = digest_of_video(tmp_path)
    old = now.partition(",")[0]
    assert is_same_video(old, now)
    assert is_same_video(f"frames, sha256 {old}", f"frames, sha256 {now}")
    assert not is_same_video(None, now)
    assert not is_same_video(now, old)


def test_a_picture_that_may_not_be_read_is_left_to_whoever_reads_its_frame(tmp_path, monkeypatch):
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    before, opened = digest_of_video(tmp_path), Path.open

    def refused(path, *rest, **more):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **more)

    monkeypatch.setattr(Path, "open", refused)
    assert is_same_video(before, digest_of_video(tmp_path))
