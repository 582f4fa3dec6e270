"""Threads: a network that several share, a tracker that two use at the same time, and what the library says unasked."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import InputError

CLIPS = [drawn_clip(8, num_objects=k, seed=seed) for seed, k in enumerate((1, 2, 1))]


def masks_of(model, clip):
    frames, masks = clip
    tracker = mm.Tracker(model, short_side=None)
    first = dict(enumerate(masks[0], 1))
    return [tracker.step(frame, first if t == 0 else None) for t, frame in enumerate(frames)]


def test_trackers_of_one_network_in_three_threads_give_the_masks_that_each_gives_alone(tiny_model):
    alone = [masks_of(tiny_model, clip) for clip in CLIPS]
    with ThreadPoolExecutor(len(CLIPS)) as threads:
        together = list(threads.map(lambda clip: masks_of(tiny_model, clip), CLIPS))
    for ours, theirs in zip(together, alone, strict=True):
        for each, other in zip(ours, theirs, strict=True):
            assert torch.equal(each.labels, other.labels)
            assert torch.equal(each.probs, other.probs)


@pytest.fixture
def busy(tiny_model, monkeypatch):
    """A tracker within its second step, which another thread computes until `go` is set, and that step's result."""
    frames, masks = CLIPS[0]
    tracker = mm.Tracker(tiny_model, short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    inside, go, encode = threading.Event(), threading.Event(), tiny_model.encode_key

    def slowly(image):
        inside.set()
        assert go.wait(60)
        return encode(image)

    monkeypatch.setattr(tiny_model, "encode_key", slowly)
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(tracker.step, frames[1])
        assert inside.wait(60)
        yield tracker, go, result
        go.set()


@pytest.mark.parametrize(
    "use",
    [
        lambda tracker: tracker.step(CLIPS[0][0][2]),
        lambda tracker: mm.TrackerBatch([tracker]).step([CLIPS[0][0][2]]),
        lambda tracker: tracker.state(),
        lambda tracker: tracker.fork(),
        lambda tracker: tracker.remove(1),
        lambda tracker: tracker.explain(0, 0),
        lambda tracker: tracker.warm_start(mm.Tracker(tracker.model, tracker.config)),
    ],
    ids=["step", "batch", "state", "fork", "remove", "explain", "warm_start"],
)
def test_a_second_thread_is_refused_and_the_first_one_is_not_disturbed(busy, use, tiny_model):
    tracker, go, result = busy
    with refusal(InputError, "another thread", "its own tracker"):
        use(tracker)
    go.set()
    masks = result.result(60)
    assert torch.equal(masks.labels, masks_of(tiny_model, CLIPS[0])[1].labels)
    assert tracker.object_ids == (1,)
    assert tracker.steps == 2


def test_threads_may_take_turns(tiny_model):
    frames, masks = CLIPS[0]
    tracker = mm.Tracker(tiny_model, short_side=None)
    labels = []
    for t, frame in enumerate(frames):
        with ThreadPoolExecutor(1) as thread:
            labels.append(thread.submit(tracker.step, frame, {1: masks[0, 0]} if t == 0 else None).result(60).labels)
    assert all(
        torch.equal(ours, each.labels) for ours, each in zip(labels, masks_of(tiny_model, CLIPS[0]), strict=True)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("earlier", [("pass", "torch.rand(999, 999) @ torch.rand(999, 999)"), ("step()",)])
def test_a_forked_process_computes_whatever_its_parent_had_computed_with_several_threads(earlier):
    code = (
        "import os, numpy as np, torch\n"
        "torch.set_num_threads(2)\n"
        "import mnemask as mm\n"
        "def step():\n"
        "    mask = np.zeros((96, 160), bool); mask[:60, :60] = True\n"
        "    tracker = mm.Tracker(mm.load_model('compact', dtype=torch.float32), short_side=96)\n"
        "    assert tracker.step(np.zeros((96, 160, 3), np.uint8), {1: mask}).object_ids == (1,)\n"
        "def check():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        step()\n"
        "        os._exit(torch.get_num_threads())\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1\n"
        "    assert torch.get_num_threads() == 2\n"
    ) + "".join(f"{line}\ncheck()\n" for line in earlier)
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as done:
        try:
            _, said = done.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, signal.SIGKILL)  # the forked process, too
            raise
    assert (done.returncode, said) == (0, "")


def test_the_library_prints_nothing_where_a_program_has_not_asked_for_its_log(tmp_path):
    code = (
        "import cv2, numpy as np, mnemask as mm, pathlib\n"
        "folder = pathlib.Path('frames'); folder.mkdir()\n"
        "for n in (0, 1, 5): cv2.imwrite(str(folder / f'{n:05d}.png'), np.full((48, 64, 3), 40 * n, np.uint8))\n"
        "mask = np.zeros((48, 64), bool); mask[:20, :20] = True\n"
        "video = mm.VideoReader('frames')\n"  # frames are missing, of which the command line warns
        "tracker = mm.Tracker(mm.load_model('compact'), short_side=48)\n"
        "mm.segment(video, tracker, 'out', lambda frame: {1: mask} if not frame.index else None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
