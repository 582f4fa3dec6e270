"""Real worker processes that do nothing much: what becomes of clips when these fail, die, wait or are stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_worker import begun, check_that_a_stop_saves_and_begins_nothing, clips_of, states

from mnemask.errors import MnemaskError
from mnemask.manifest.local import LocalWorkers, _gpu_of
from mnemask.manifest.run import Begun, Said, Setup, run_batch
from mnemask.manifest.schedule import Retries


def batch(folder, clips, workers=2, **how):
    setup = Setup("stub_worker:open_stub", {"folder": str(folder)}, threads=1)
    return run_batch(clips, LocalWorkers(setup, workers), **how)


def test_a_clip_that_fails_stops_no_other(tmp_path):
    outcomes = batch(tmp_path, clips_of(a="ok", b="fail", c="fault", d="ok"))
    assert states(outcomes) == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    assert (outcomes["b"].problem, outcomes["b"].remedy) == ("the file is damaged", "get another one")
    assert "ZeroDivisionError" in outcomes["c"].problem
    assert sorted(begun(tmp_path)) == ["a", "b", "c", "d"]
    assert outcomes["a"].facts["threads"] == 1


def test_workers_take_turns_on_the_gpus_that_the_batch_itself_sees(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [_gpu_of(worker, 2) for worker in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    assert [_gpu_of(worker, 2) for worker in range(3)] == ["2", "3", "2"]


def test_a_killed_worker_is_replaced_and_its_clip_done_again(tmp_path):
    said = []
    outcomes = batch(tmp_path, clips_of(a="die once", b="ok", c="ok"), on_event=said.append)
    assert states(outcomes) == {"a": "done", "b": "done", "c": "done"}
    assert outcomes["a"].attempts == 2
    assert sorted(begun(tmp_path)) == ["a", "a", "b", "c"]
    assert any("SIGKILL" in each.text for each in said if isinstance(each, Said))


def test_a_clip_that_kills_every_worker_is_given_up(tmp_path):
    outcomes = batch(tmp_path, clips_of(a="die", b="ok"), retries=Retries(losses=2))
    assert states(outcomes) == {"a": "failed", "b": "done"}
    assert outcomes["a"].attempts == 2
    assert "SIGKILL" in outcomes["a"].problem


def test_a_stop_lets_workers_save_and_begins_nothing(tmp_path):
    check_that_a_stop_saves_and_begins_nothing(batch, tmp_path, workers=1)


def test_a_folder_in_use_is_tried_again(tmp_path):
    outcomes = batch(tmp_path, clips_of(a="busy once"), workers=1, retries=Retries(pause_seconds=0.1))
    assert states(outcomes) == {"a": "done"}
    assert outcomes["a"].attempts == 2


def test_workers_that_cannot_start_end_the_batch(tmp_path, monkeypatch):
    setup = Setup("stub_worker:no_such_function")
    with pytest.raises(MnemaskError) as caught:
        run_batch(clips_of(a="ok"), LocalWorkers(setup, 1))
    assert caught.value.remedy


DRIVER = """
import sys
sys.path[:0] = sys.argv[1:2]
from stub_worker import clips_of
from mnemask.manifest.local import LocalWorkers, _gpu_of
from mnemask.manifest.run import Setup, run_batch
if __name__ == "__main__":
    setup = Setup("stub_worker:open_stub", {"folder": sys.argv[2]})
    run_batch(clips_of(a="wait"), LocalWorkers(setup, 1))
"""


def test_workers_end_when_the_batch_is_killed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)])
    until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text().endswith("\n"))
    worker = int((tmp_path / "begun").read_text().split()[1])
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until(lambda: not alive(worker))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_events_name_the_process_that_began_a_clip(tmp_path):
    seen = []
    batch(tmp_path, clips_of(a="ok"), workers=1, on_event=seen.append)
    begins = [event for event in seen if isinstance(event, Begun)]
    assert [event.clip for event in begins] == ["a"]
    assert str(os.getpid()) not in begins[0].where
