"""A real Ray cluster of two nodes: a worker killed in mid-clip, a node removed, a driver that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusals import refusal
from stub_worker import begun, check_that_a_stop_saves_and_begins_nothing, clips_of, states

from mnemask.errors import InputError, MnemaskError
from mnemask.manifest.on_ray import RayWorkers
from mnemask.manifest.run import Advanced, Begun, Said, Setup, run_batch

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

HERE = str(Path(__file__).parent)
SOURCE = str(Path(__file__).resolve().parents[2] / "src")

# Ray leaves sockets and processes to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster():
    paths = os.pathsep.join([HERE, SOURCE, os.environ.get("PYTHONPATH", "")])
    ends = signal.getsignal(signal.SIGTERM)  # which Ray takes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 80_000_000}
        quickly = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 4,
        }
        head = {
            **node,
            "include_dashboard": False,
            "_system_config": quickly,
        }  # notices in two seconds that one is gone
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")  # while it has one node, and so on that
        cluster.second = cluster.add_node(**node)
        yield cluster
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, ends)


def batch(folder, clips, most=2, on_event=lambda event: None, **how):
    setup = Setup("stub_worker:open_stub", {"folder": str(folder)}, must_see=how.pop("must_see", ""))
    return run_batch(clips, RayWorkers(setup, "auto", most), on_event=on_event, **how)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "auto"])
def test_a_cluster_that_is_not_there_is_refused(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # as a cluster that has ended leaves it
    with refusal(InputError, "127.0.0.1:9"):
        RayWorkers(Setup("stub_worker:open_stub"), address, 1).__enter__()


def test_clips_are_spread_over_the_nodes_and_a_failure_stops_no_other(cluster, tmp_path):
    seen = []
    outcomes = batch(tmp_path, clips_of(a="ok", b="fail", c="ok", d="ok", e="ok"), on_event=seen.append)
    assert states(outcomes) == {"a": "done", "b": "failed", "c": "done", "d": "done", "e": "done"}
    assert sorted(begun(tmp_path)) == ["a", "b", "c", "d", "e"]
    assert {event.clip for event in seen if isinstance(event, Begun)} == {"a", "b", "c", "d", "e"}


def test_a_worker_killed_in_mid_clip_is_replaced_and_nothing_else_is_done_twice(cluster, tmp_path):
    said = []

    def hear(event):
        if isinstance(event, Advanced) and not said:  # from within the first clip
            said.append(event)
            os.kill(int((tmp_path / "begun").read_text().split()[1]), signal.SIGKILL)

    outcomes = batch(tmp_path, clips_of(a="wait once", b="ok", c="ok"), most=1, on_event=hear)
    assert states(outcomes) == {"a": "done", "b": "done", "c": "done"}
    assert (outcomes["a"].attempts, outcomes["b"].attempts) == (2, 1)
    assert sorted(begun(tmp_path)) == ["a", "a", "b", "c"]


def test_a_stop_lets_actors_save_and_begins_nothing(cluster, tmp_path):
    check_that_a_stop_saves_and_begins_nothing(batch, tmp_path, most=1)


def test_nodes_that_do_not_see_the_results_are_told(cluster, tmp_path):
    with refusal(MnemaskError, "lost"):
        batch(tmp_path, clips_of(a="ok"), must_see=str(tmp_path / "lost/lock"))


DRIVER = """
import sys
from stub_worker import clips_of
from mnemask.io.stop_signals import StopSignals
from mnemask.manifest.on_ray import RayWorkers
from mnemask.manifest.run import Setup, run_batch
setup = Setup("stub_worker:open_stub", {"folder": sys.argv[2]})
with StopSignals(lambda: None) as asked:
    outcomes = run_batch(clips_of(a="wait"), RayWorkers(setup, sys.argv[1], 2), stop=asked)
print(outcomes["a"].state, outcomes["a"].problem)
"""


@pytest.mark.parametrize(("sent", "said"), [(signal.SIGKILL, ""), (signal.SIGTERM, "stopped saved\n")])
def test_workers_end_with_the_driver(cluster, tmp_path, sent, said):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([HERE, SOURCE])}
    line = [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)]
    driver = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text().endswith("\n"))
    worker = int((tmp_path / "begun").read_text().split()[1])
    driver.send_signal(sent)
    assert driver.communicate()[0] == said
    until(lambda: not Path(f"/proc/{worker}").exists())


def test_clips_of_a_node_that_is_removed_are_done_on_the_other(cluster, tmp_path):
    said = []

    def hear(event):
        if isinstance(event, Said):
            said.append(event.text)
            (tmp_path / "go").touch()
        if isinstance(event, Advanced) and cluster.second is not None and len(begun(tmp_path)) == 2:
            cluster.remove_node(cluster.second, allow_graceful=False)
            cluster.second = None

    outcomes = batch(tmp_path, clips_of(a="until go", b="until go", c="ok", d="ok"), on_event=hear)
    assert set(states(outcomes).values()) == {"done"}
    assert sorted(outcome.attempts for outcome in outcomes.values()) == [1, 1, 1, 2]
    assert said


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
