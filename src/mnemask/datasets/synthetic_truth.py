"""What a generated frame shows of each object, known to the pixel because it was painted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Visibility:
    """How much of one object one frame shows.

    Attributes:
        visible: its visible pixels / the pixels it would have if nothing hid it and the frame had no border; 0 to 1.
        occluded: whether something before it hides at least one of its pixels within the frame.
        in_frame: whether at least one of its pixels, seen or hidden, lies within the frame.
    """

    visible: float
    occluded: bool
    in_frame: bool

    @classmethod
    def of(cls, seen: int, inside: int, whole: int) -> "Visibility":
        """Returns it from the pixels that are seen, that lie within the frame, and that there are in all."""
        assert 0 <= seen <= inside <= whole
        return cls(seen / whole if whole else 0.0, seen < inside, inside > 0)
