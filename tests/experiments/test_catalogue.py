"""The descriptions of the experiments, and the thesis's figures in them."""

from dataclasses import replace

import pytest
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.errors import InputError
from mnemask.evaluation.runner import TrackerFactory
from mnemask.experiments import thesis
from mnemask.experiments.catalogue import EXPERIMENTS, experiment_named
from mnemask.experiments.plan import Run
from mnemask.experiments.run import trackers_of
from mnemask.memory.policies import POLICIES


def test_every_number_of_the_thesis_names_one_experiment():
    names = [name for experiment in EXPERIMENTS.values() for name in (experiment.name, *experiment.also)]
    assert len(set(names)) == len(names)
    assert {"table1", "table3", "table4", "tables7-8", "fig9", "fig10", "fig11"} <= set(names)
    assert experiment_named("fig11") is EXPERIMENTS["capacity"]


def test_an_unknown_experiment_is_told_the_known_ones():
    with refusal(InputError, r"'table12'", r"strategies/table1"):
        experiment_named("table12")


@pytest.mark.parametrize("more", [(), ("fifo", "first-and-latest", "lfu", "diverse")], ids=["", "more"])
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_what_an_experiment_shows_is_among_what_it_runs(experiment, more):
    experiment = experiment.with_policies(more)
    assert all(run.policy in POLICIES for run in experiment.runs)
    drawn = []
    if experiment.picture is not None:
        drawn += getattr(experiment.picture, "runs", ())
        drawn += getattr(experiment.picture, "levels", ())
        drawn += [run for line in getattr(experiment.picture, "lines", ()) for _, run in line.points]
    assert set(drawn) <= set(experiment.runs)
    for of_set in experiment.reference.values():
        assert set(of_set) & set(experiment.runs), "none of the thesis's figures would be shown"


@pytest.mark.parametrize("name", ["capacity", "policies"])
def test_a_policy_that_joins_has_the_budgets_of_the_others(name):
    joined = EXPERIMENTS[name].with_policies(["fifo"])
    frames = [run.frames for run in joined.runs if run.policy == "fifo"]
    assert frames == [run.frames for run in joined.runs if run.policy == "lfu"]
    assert frames[:4] == [1, 2, 4, 8]
    assert name == "policies" or "fifo" in [line.label for line in joined.picture.lines]


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_run_that_sets_nothing_is_the_registered_policy(name):
    tracker = trackers_of(Run("any", name), TrackerFactory(TrackerConfig(short_side=64), device="cpu")).tracker()
    assert tracker.policy == POLICIES[name]
    assert tracker.memory.budget.frames == POLICIES[name].default_frames
    assert (tracker.config.top_k, tracker.config.metric, tracker.config.short_side) == (20, "l2", 64)


def test_a_run_sets_what_it_says():
    run = Run("any", "fifo", frames=3, write_every=2, pin=False, top_k=None, metric="cosine")
    tracker = trackers_of(run, TrackerFactory(device="cpu")).tracker()
    assert (tracker.policy.write_every, tracker.policy.pin, tracker.memory.budget.frames) == (2, False, 3)
    assert tracker.config.metric == "cosine"
    each_second = trackers_of(replace(run, policy="diverse"), TrackerFactory(device="cpu")).config
    assert (each_second.write_every, each_second.write_on_growth) == (2, 0)
    assert tracker.config.top_k > 100_000


@pytest.mark.parametrize(("dataset", "count"), [("davis2016", 20), ("davis2017", 61)])
def test_the_figures_per_object_average_as_the_thesis_says(dataset, count):
    scores = thesis.per_object(dataset)
    assert len(scores) == count
    mean = thesis.lfu_over(dataset, {name.rpartition("_")[0] for name in scores})
    printed = thesis.TABLES_1_AND_2[dataset][thesis.LFU]
    assert {name: mean[name] for name in mean} == pytest.approx({name: printed[name] for name in mean}, abs=6e-4)


def test_sequences_that_are_not_in_the_thesis_have_no_mean():
    assert thesis.lfu_over("davis2016", ["camel", "street"]) is None
    assert thesis.lfu_over("youtube-vos", ["camel"]) is None
    assert thesis.lfu_over("davis2016", ["camel"]) == pytest.approx(
        {"J&F-Mean": 0.981, "J-Mean": 0.968, "F-Mean": 0.994}
    )
