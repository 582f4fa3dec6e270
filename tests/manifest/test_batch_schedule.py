"""What follows from how a clip went, without processes."""

import pytest

from mnemask.manifest.run import Setup
from mnemask.manifest.schedule import Again, Attempts, Clip, Outcome, Retries, Schedule, after_loss, after_outcome
from mnemask.manifest.sizing import num_workers, slots, threads_on

RETRIES = Retries(losses=3, busy_seconds=60.0, pause_seconds=5.0)


def clip(name, size=0):
    return Clip(name, 1, {"video": name}, size=size)


def test_a_failure_ends_a_clip_at_once():
    ended = after_outcome(Outcome("failed", "damaged"), Attempts(begun=2), 0.0, RETRIES)
    assert ended == Outcome("failed", "damaged", attempts=2)


def test_a_lost_worker_costs_a_try_and_the_last_one_the_clip():
    again = after_loss("killed", Attempts(begun=1), 7.0, RETRIES)
    assert again == Again(Attempts(begun=1, lost=1), 7.0)
    given_up = after_loss("killed", Attempts(begun=3, lost=2), 7.0, RETRIES)
    assert (given_up.state, given_up.attempts) == ("failed", 3)
    assert "killed" in given_up.problem


def test_a_folder_in_use_is_waited_for_but_not_for_ever():
    busy = Outcome("busy", "in use")
    again = after_outcome(busy, Attempts(1), 10.0, RETRIES)
    assert again == Again(Attempts(1, busy_since=10.0), 15.0)
    assert isinstance(after_outcome(busy, again.attempts, 69.0, RETRIES), Again)
    assert after_outcome(busy, again.attempts, 70.0, RETRIES).state == "failed"


def test_long_clips_come_first_and_others_as_they_are():
    schedule = Schedule([clip("a"), clip("b", 5), clip("c"), clip("d", 9)], RETRIES)
    assert [schedule.take(0.0).name for _ in range(4)] == ["d", "b", "a", "c"]
    assert schedule.take(0.0) is None
    assert not schedule.over


def test_a_clip_that_only_waited_with_a_lost_worker_loses_no_try():
    schedule = Schedule([clip("a")], Retries(losses=1))
    for now in (0.0, 1.0, 2.0):
        assert schedule.take(now).name == "a"
        assert not schedule.lost("a", "gone", begun=False, now=now)
    schedule.take(9.0)
    schedule.begun("a")
    assert schedule.lost("a", "gone", begun=True, now=9.0)
    assert schedule.outcomes["a"].state == "failed"


def test_a_second_answer_for_a_clip_changes_nothing():
    schedule = Schedule([clip("a")], RETRIES)
    schedule.take(0.0)
    schedule.begun("a")
    assert schedule.ended("a", Outcome("done"), 1.0)
    assert not schedule.ended("a", Outcome("failed"), 2.0)
    assert not schedule.lost("a", "gone", begun=True, now=3.0)
    assert schedule.outcomes == {"a": Outcome("done", attempts=1)}
    assert schedule.over


def test_a_busy_clip_comes_again_after_the_pause_and_others_meanwhile():
    schedule = Schedule([clip("a", 2), clip("b", 1)], RETRIES)
    schedule.take(0.0)
    schedule.ended("a", Outcome("busy"), 0.0)
    assert schedule.take(1.0).name == "b"
    assert schedule.take(1.0) is None
    assert schedule.take(5.0).name == "a"


def test_a_stop_ends_what_waits_and_leaves_what_runs():
    schedule = Schedule([clip("a", 2), clip("b", 1)], RETRIES)
    schedule.take(0.0)
    schedule.stop()
    assert {name: each.state for name, each in schedule.outcomes.items()} == {"b": "stopped"}
    assert not schedule.over
    schedule.abandon("silent")
    assert schedule.over


@pytest.mark.parametrize(
    ("cores", "memory", "clips", "gpus", "asked", "expected"),
    [
        (8, 100, 40, 0, None, (8, 1)),
        (8, 45, 40, 0, None, (4, 2)),
        (8, 100, 2, 0, None, (2, 4)),
        (8, 1, 40, 0, None, (1, 8)),
        (8, None, 40, 0, None, (8, 1)),
        (16, 100, 40, 2, None, (2, 8)),
        (2, 100, 40, 0, 5, (5, 1)),
        (2, 100, 3, 0, 5, (3, 1)),
    ],
)
def test_workers_are_as_many_as_cores_gpus_memory_and_clips_allow(cores, memory, clips, gpus, asked, expected):
    assert num_workers(cores, memory, 10, clips, gpus, asked) == expected


def test_actors_are_as_many_as_fit_on_each_node_that_is_alive():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4, "memory": 35}},
        {"Alive": True, "Resources": {"CPU": 8, "memory": 1000, "GPU": 2}},
        {"Alive": False, "Resources": {"CPU": 64, "memory": 1000, "GPU": 8}},
    ]
    assert slots(nodes, Setup("", memory=10)) == 3 + 8
    assert slots(nodes, Setup("", memory=10, threads=3)) == 1 + 2
    assert slots(nodes, Setup("", memory=10, gpus=1.0)) == 2


def test_actors_have_more_threads_where_there_are_more_cores_than_clips():
    nodes = [{"Alive": True, "Resources": {"CPU": cores}} for cores in (4, 8)]
    assert [threads_on(nodes, Setup(""), most) for most in (40, 12, 6, 3, 1)] == [1, 1, 2, 4, 8]
