import numpy as np
import pytest
from refusals import refusal

from mnemask.datasets.clips import ClipShape, Mixture, TrainingClip
from mnemask.errors import InputError

SHAPE = ClipShape(size=32, num_frames=2)


class Shade:
    """A source of frames of one brightness, with one object in a corner."""

    def __init__(self, value: int) -> None:
        self.value = value

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        size = (shape.num_frames, shape.size, shape.size)
        labels = np.zeros(size, np.uint8)
        labels[:, :8, :8] = 1
        return TrainingClip(np.full((*size, 3), self.value + rng.integers(50), np.uint8), labels, 1)


def shares(mixture: Mixture, count: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = [int(mixture.draw(rng, SHAPE).frames[0, 0, 0, 0]) // 50 for _ in range(count)]
    return np.bincount(values, minlength=4) / count


def test_sources_are_drawn_from_in_proportion_to_their_weights() -> None:
    found = shares(Mixture([(Shade(0), 5 * 20), (Shade(50), 60), (Shade(100), 0), (Shade(150), 40.0)]))
    assert found == pytest.approx([0.5, 0.3, 0, 0.2], abs=0.03)
    assert found[2] == 0


def test_a_clip_depends_on_the_generator_alone() -> None:
    mixture = Mixture([(Shade(0), 1), (Shade(100), 1)])
    frames = [mixture.draw(np.random.default_rng(3), SHAPE).frames for _ in range(3)]
    assert (frames[0] == frames[1]).all()
    assert (frames[1] == frames[2]).all()


def test_a_mixture_may_be_part_of_another() -> None:
    inner = Mixture([(Shade(0), 1), (Shade(50), 1)])
    assert shares(Mixture([(inner, 2), (Shade(100), 2)]))[:3] == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


@pytest.mark.parametrize("weights", [[], [0], [0.0, 0.0], [1, -1], [float("nan")], [float("inf"), 1]])
def test_weights_that_choose_nothing_are_refused(weights: list[float]) -> None:
    with refusal(InputError, "expected"):
        Mixture([(Shade(0), weight) for weight in weights])
