"""Clips drawn in code, as arrays and as files of every kind."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from encoding import encode


def draw_clip(num_frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Textured pictures that differ from each other and look different turned or mirrored in any way."""
    texture = np.random.default_rng(0).integers(0, 60, (height, width + 3 * num_frames, 3))
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([2 * x + 10, 3 * y + 10, 100 + 0 * x], axis=-1)
    return [
        (ramp + texture[:, 3 * number : 3 * number + width]).clip(0, 255).astype(np.uint8)
        for number in range(num_frames)
    ]


@pytest.fixture
def noise() -> list[np.ndarray]:
    """Frames of which each takes about as many bytes as any other."""
    return list(np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8))


@pytest.fixture
def clip() -> list[np.ndarray]:
    return draw_clip(30)


@pytest.fixture
def video_file(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes a clip to a file of this name."""

    def write(name: str, clip: Sequence[np.ndarray], codec: str = "libx264", **how: object) -> Path:
        path = tmp_path / name
        encode(str(path), clip, codec, **how)
        return path

    return write
