"""Recipes draw what they say, and each ingredient can be switched off alone."""

from collections import Counter
from dataclasses import fields

import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.training import recipes
from mnemask.training.losses import RootDecay, WarmUpStable


def test_lengths_take_turns_and_depend_on_the_step_alone():
    recipe = recipes.real_video()
    lengths = [recipe.shape(step, 1).num_frames for step in range(1000)]
    counts = Counter(lengths)
    assert set(counts) == {3, 4, 5, 6}
    assert 450 < counts[3] < 550
    assert lengths == [recipe.shape(step, 2).num_frames for step in range(1000)]
    assert {recipes.main().shape(step, 1).num_frames for step in range(50)} == {3}


def test_plans_depend_on_the_step_and_the_seed():
    recipe = recipes.real_video()
    drawn = [recipe.plan(step, 5) for step in range(50)]
    assert drawn == [recipes.real_video(10).plan(step, 5) for step in range(50)]
    assert drawn != [recipes.decayed(recipe, 10).plan(step, 5) for step in range(50)]


def test_most_of_the_real_video_recipe_is_real_video():
    mixture = recipes.real_video().mixture
    assert mixture.real + mixture.pasted >= 0.5


@pytest.mark.parametrize("ingredient", recipes.INGREDIENTS)
def test_each_ingredient_is_switched_off_in_one_field(ingredient):
    whole = recipes.real_video()
    less = recipes.without(whole, ingredient)
    changed = [field.name for field in fields(whole) if getattr(whole, field.name) != getattr(less, field.name)]
    assert len(changed) == 1


def test_a_recipe_without_the_ingredient_says_so():
    with refusal(InputError, "compact"):
        recipes.without(recipes.compact(), "zoom")
    with refusal(InputError, "real-video"):
        recipes.without(recipes.real_video(), "rain")


@pytest.mark.parametrize("make", [recipes.finetune, recipes.compact])
@pytest.mark.parametrize("steps", [20, 100, None])
def test_a_run_of_any_length_reaches_its_learning_rate(make, steps):
    recipe = make() if steps is None else make(steps)
    assert max(recipe.schedule.rate(step, recipe.steps) for step in range(recipe.steps)) > 0.9


def test_a_warm_up_is_shorter_in_short_runs_alone():
    assert [recipes.finetune(steps).schedule.warm_up for steps in (1, 20, 200, 400, 4000)] == [1, 1, 10, 20, 20]
    assert [recipes.compact(steps).schedule.warm_up for steps in (50, 2500, 5000, 50_000)] == [1, 30, 60, 60]


def test_a_trunk_keeps_its_rate_and_a_decay_loses_it():
    trunk = WarmUpStable(warm_up=10)
    assert [trunk.rate(step, 100) for step in (0, 9, 10, 99, 10**6)] == [0.1, 1, 1, 1, 1]
    decay = RootDecay(final=0.02)
    assert [decay.rate(step, 100) for step in (0, 50, 99, 100)] == pytest.approx([1, 1 - 0.5**0.5, 0.02, 0.02])
    assert recipes.decayed(recipes.real_video(), 500).schedule == decay


def test_a_capacity_bounds_the_memory_of_every_clip():
    for clip_frames, capacity in ((6, 2.0), (6, 4.9), (3, 1.9)):
        recipe = recipes.customized(recipes.compact(), clip_frames, capacity)
        assert recipe.shape(0, 1).num_frames == clip_frames
        assert {recipe.plan(step, clip_frames).capacity for step in range(50)} == {capacity}


@pytest.mark.parametrize(
    ("make", "clip_frames", "capacity", "facts"),
    [
        (recipes.static, None, 2.0, ("3 frames", "clips of 4 frames", "below 2")),
        (recipes.main, None, 2.5, ("3 frames", "clips of 4 frames", "below 2")),
        (recipes.compact, 6, 5.0, ("6 frames", "clips of 7 frames", "below 5")),
        (recipes.real_video, None, 5.0, ("6 frames", "clips of 7 frames", "below 5")),
        (recipes.compact, 2, 1.0, ("2 frames", "clips of 3 frames")),
    ],
)
def test_a_capacity_that_never_evicts_is_refused(make, clip_frames, capacity, facts):
    with refusal(InputError, *facts, "--clip-frames"):
        recipes.customized(make(), clip_frames, capacity)
