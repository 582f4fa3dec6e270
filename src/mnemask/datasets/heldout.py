"""A generated set to compare trackers on: eight clips of two to four objects that hide each other, always the same.

They are wholly drawn, from no file. Networks trained on photographs and real video, as the shipped ones are, have seen
neither these objects nor this ground; one that was trained on SyntheticVideo without photographs must be measured
elsewhere.
"""

from dataclasses import dataclass

from mnemask.datasets.synthetic import SyntheticVideo

NUM_FRAMES = 40
SIZE = (480, 854)
PACE = 3  # 40 frames are then enough for objects to meet and to part


@dataclass(frozen=True, slots=True)
class HeldOutClip:
    """One clip of the set; `open` draws it. The attributes are those of SyntheticVideo."""

    name: str
    num_objects: int
    seed: int
    lookalikes: bool = False
    num_occluders: int = 0

    def open(self, num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> SyntheticVideo:
        """Returns the clip; fewer frames are its beginning, and each size is a scene of its own."""
        return SyntheticVideo(
            num_frames,
            size,
            self.num_objects,
            self.seed,
            lookalikes=self.lookalikes,
            num_occluders=self.num_occluders,
            pace=PACE,
        )


# In each, objects are hidden to more than half and come out again; the numbers are part of the set.
HELD_OUT = (
    HeldOutClip("pair", 2, 200),
    HeldOutClip("pair-leaving", 2, 203),
    HeldOutClip("pair-screened", 2, 205, num_occluders=1),
    HeldOutClip("pair-doubled", 2, 202, lookalikes=True, num_occluders=1),
    HeldOutClip("three-screened", 3, 201, num_occluders=1),
    HeldOutClip("three-doubled", 3, 201, lookalikes=True),
    HeldOutClip("four-screened", 4, 204, num_occluders=1),
    HeldOutClip("four-crowded", 4, 201, num_occluders=2),
)
