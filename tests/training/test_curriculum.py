import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.training.losses import Bootstrap
from mnemask.training.recipes import GapCurriculum


@pytest.mark.parametrize(
    ("step", "gap"),
    [
        (0, 5),
        (14_999, 5),
        (15_000, 10),
        (29_999, 10),
        (30_000, 15),
        (45_000, 20),
        (59_999, 20),
        (60_000, 25),
        (134_999, 25),
        (135_000, 5),
        (149_999, 5),
        (150_000, 5),
    ],
)
def test_gaps_rise_and_fall_at_the_very_steps_of_the_thesis(step: int, gap: int) -> None:
    assert GapCurriculum().max_gap(step / 150_000) == gap


def test_a_curriculum_without_steps_keeps_its_gap() -> None:
    constant = GapCurriculum(start=10, step=0)
    assert {constant.max_gap(progress / 20) for progress in range(21)} == {10}


def test_a_gap_may_be_raised_twice_at_once_and_from_the_start() -> None:
    assert GapCurriculum(2, 3, (0.0, 0.5, 0.5), 1.0).max_gap(0) == 5
    assert GapCurriculum(2, 3, (0.0, 0.5, 0.5), 1.0).max_gap(0.5) == 11


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0},
        {"step": -1},
        {"raise_at": (0.2, 0.1)},
        {"raise_at": (-0.1,)},
        {"back_at": 0.3},
        {"back_at": 1.5},
        {"back_at": float("nan")},
    ],
)
def test_impossible_curricula_are_refused(wrong: dict[str, object]) -> None:
    with refusal(InputError, "expected"):
        GapCurriculum(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "fraction"),
    [(0, 1.0), (20_000, 1.0), (20_001, 1 - 0.85 / 50_000), (45_000, 0.575), (70_000, 0.15), (300_000, 0.15)],
)
def test_pixels_are_left_out_linearly_between_the_steps_of_the_thesis(step: int, fraction: float) -> None:
    assert Bootstrap().fraction(step) == pytest.approx(fraction, abs=1e-12)


def test_a_fall_at_once_and_none_at_all_are_schedules_too() -> None:
    assert [Bootstrap(3, 3, 0.2).fraction(step) for step in (2, 3, 4)] == [1.0, 1.0, 0.2]
    assert {Bootstrap(0, 10, 1.0).fraction(step) for step in range(12)} == {1.0}


@pytest.mark.parametrize("wrong", [{"start": -1}, {"end": 10}, {"hardest": 0.0}, {"hardest": 1.1}])
def test_impossible_schedules_are_refused(wrong: dict[str, object]) -> None:
    with refusal(InputError, "expected"):
        Bootstrap(**wrong)  # type: ignore[arg-type]
