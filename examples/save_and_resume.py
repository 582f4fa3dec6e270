"""Stop in the middle of a video, go on later: the masks are the same to the last bit.

python examples/save_and_resume.py
"""

import tempfile
from pathlib import Path

import torch

import mnemask as mm


def main(num_frames: int = 16) -> bool:
    """Returns whether a tracker that was saved half way gives the same masks as one that was not."""
    video = mm.DrawnVideo(num_frames, size=(144, 256), num_objects=1)
    model = mm.load_model("compact")
    first = video[0][1] == 1

    whole = mm.Tracker(model, short_side=None)
    expected = [whole.step(frame, {1: first} if frame.index == 0 else None).labels for frame, _ in video]

    with tempfile.TemporaryDirectory() as folder:
        half = mm.Tracker(model, short_side=None)
        for index in range(num_frames // 2):
            half.step(video[index][0], {1: first} if index == 0 else None)
        half.save(Path(folder) / "clip.bank")
        rest = mm.Tracker.load(Path(folder) / "clip.bank", model)
    found = [rest.step(video[index][0]).labels for index in range(num_frames // 2, num_frames)]
    same = all(map(torch.equal, found, expected[num_frames // 2 :]))
    print("identical" if same else "different")
    return same


if __name__ == "__main__":
    main()
