"""Remember an object from one video, and find it in another one of another size, without a mask.

python examples/warm_start.py
"""

import tempfile
from pathlib import Path

import mnemask as mm
from mnemask.metrics import region_similarity


def main(num_frames: int = 12) -> float:
    """Returns the mean J in the second video."""
    model = mm.load_model("compact")
    first = mm.DrawnVideo(num_frames, size=(144, 256), num_objects=1)
    second = mm.DrawnVideo(num_frames, size=(192, 256), num_objects=1)  # the same object in another place

    with tempfile.TemporaryDirectory() as folder:
        tracker = mm.Tracker(model, short_side=None)
        for frame, truth in first:
            tracker.step(frame, {1: truth == 1} if frame.index == 0 else None)
        tracker.save(Path(folder) / "object.bank")

        other = mm.Tracker(model, budget=mm.Budget(frames=3), short_side=None)
        other.warm_start(mm.Tracker.load(Path(folder) / "object.bank", model))
    found = [
        region_similarity(other.step(frame).mask(1).numpy(), (truth == 1).numpy())
        for frame, truth in second
        if second.visible(frame.index)
    ]
    mean = sum(found) / len(found)
    print(f"J {100 * mean:.1f} in a video without any given mask")
    return mean


if __name__ == "__main__":
    main()
