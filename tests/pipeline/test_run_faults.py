"""A full disk, a network that fails, a limit on memory: what was written stays, and the run goes on later."""

import copy
import resource
import shutil
import subprocess
import time
import weakref

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from PIL import Image
from refusals import refusal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mnemask as mm
from mnemask.errors import BudgetError, FrameError, OutputError
from mnemask.memory.policies import LFU
from mnemask.model.stcn import STCN
from mnemask.pipeline import find_checkpoint
from mnemask.pipeline.estimates import activation_bytes, estimate_memory
from mnemask.prompts.plan import PromptPlan


@pytest.fixture(scope="module")
def clip():
    frames, masks = drawn_clip(14, num_objects=1)
    return [mm.Frame(frame, index) for index, frame in enumerate(frames)], {0: {1: masks[0, 0]}}


def run(model, out, clip, resume=None, **options):
    frames, prompts = clip
    start, tracker = 0, mm.Tracker(model, short_side=None)
    if resume is not None:
        start, tracker = resume.position, mm.Tracker.from_state(resume.state, model)
    options = {"checkpoint_every": 0.0, **options}
    return mm.segment(frames[start:], tracker, out, lambda frame: prompts.get(frame.index), resume=resume, **options)


def go_on(model, out, clip, **options):
    checkpoint = find_checkpoint(out, torch.device("cpu"), {})
    assert checkpoint is not None
    run(model, out, clip, checkpoint, **options)
    return checkpoint.position


def masks_in(out):
    return {path.name: path.read_bytes() for path in (out / "masks").iterdir()}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle"])
def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(
    tiny_model, tmp_path, clip, small_disk, mask_format
):
    run(tiny_model, tmp_path / "whole", clip, mask_format=mask_format)
    ballast, out = small_disk / "ballast", small_disk / "out"

    def fill(progress, masks):
        if masks.index == 6:
            with pytest.raises(OSError, match="No space left"):
                ballast.write_bytes(bytes(2**20))

    with refusal(OutputError, "space"):
        run(tiny_model, out, clip, mask_format=mask_format, on_frame=fill)
    ballast.unlink()
    go_on(tiny_model, out, clip, mask_format=mask_format)
    assert masks_in(out) == masks_in(tmp_path / "whole")


def remount(folder, how):
    """Waits until the system grants it: not while a file is open for writing."""
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    deadline = time.monotonic() + 20
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_place_that_becomes_read_only_loses_nothing_and_the_run_goes_on_when_it_can_be_written_to(
    tiny_model, tmp_path, clip, small_disk
):
    run(tiny_model, tmp_path / "whole", clip)
    out = small_disk / "out"

    def protect(progress, masks):
        if masks.index == 6:
            remount(small_disk, "ro")

    with refusal(OutputError, "Read-only"):
        run(tiny_model, out, clip, on_frame=protect)
    written = masks_in(out)
    assert written
    remount(small_disk, "rw")
    assert go_on(tiny_model, out, clip) <= len(written)
    assert masks_in(out) == masks_in(tmp_path / "whole")
    assert written.items() <= masks_in(out).items()


def test_a_file_that_may_not_grow_is_as_a_full_disk(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path / "whole", clip, mask_format="rle")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with refusal(OutputError, "make"):
            run(tiny_model, tmp_path / "cut", clip, mask_format="rle", checkpoint_every=1e9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    run(tiny_model, tmp_path / "cut", clip, mask_format="rle", overwrite=True)
    assert masks_in(tmp_path / "cut") == masks_in(tmp_path / "whole")


def test_a_network_that_fails_half_way_is_named_and_the_run_goes_on_when_it_is_repaired(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path / "whole", clip)
    model = copy.deepcopy(tiny_model)

    def break_it(progress, masks):
        if masks.index == 8:
            model.decoder.pred.weight.fill_(torch.nan)

    with refusal(FrameError, "finite"):
        run(model, tmp_path / "broken", clip, on_frame=break_it, checkpoint_every=1e9)
    assert len(masks_in(tmp_path / "broken")) == 9
    assert go_on(tiny_model, tmp_path / "broken", clip) == 9
    assert masks_in(tmp_path / "broken") == masks_in(tmp_path / "whole")


# The promise


def test_too_little_memory_is_refused_before_the_first_frame_with_what_takes_how_much(tiny_model, tmp_path, clip):
    with refusal(BudgetError, r"96×64", r"--size", r"--budget"):
        run(tiny_model, tmp_path / "out", clip, max_memory=10 * 2**20)
    assert not (tmp_path / "out").exists()
    run(tiny_model, tmp_path / "out", clip, max_memory=1e12)


def test_objects_that_come_later_are_counted_when_they_come(tiny_model, tmp_path, clip):
    frames, prompts = clip
    taken = estimate_memory(mm.Tracker(tiny_model, short_side=None), (64, 96), 1)
    crowd = {object_id: torch.zeros(64, 96, dtype=torch.bool) for object_id in range(2, 60)}
    for object_id, mask in crowd.items():
        mask[object_id] = True
    with refusal(BudgetError, r"59"):
        run(tiny_model, tmp_path, (frames, {**prompts, 5: crowd}), max_memory=taken.total + 2**26)
    assert len(masks_in(tmp_path)) == 5


def test_a_budget_that_new_objects_exceed_is_not_to_be_enlarged_by_resuming(tiny_model, tmp_path, clip):
    frames, prompts = clip
    crowd = torch.eye(64, 96, dtype=torch.bool)
    later = {5: {object_id: crowd.roll(object_id, 1) for object_id in range(2, 60)}}

    def follow(out, given):
        tracker = mm.Tracker(tiny_model, budget=mm.Budget(bytes=2**24 + 2**16), short_side=None)
        mm.segment(frames, tracker, out, lambda frame: given.get(frame.index))

    with refusal(BudgetError, "16842752 bytes", "at least", "--overwrite"):
        follow(tmp_path / "late", prompts | later)
    assert len(masks_in(tmp_path / "late")) == 5
    with pytest.raises(BudgetError) as caught:
        follow(tmp_path / "at_once", {0: later[5]})
    assert "--overwrite" not in str(caught.value)  # there is nothing to go on with


def test_objects_known_to_come_are_counted_before_the_first_frame(tiny_model, tmp_path, clip):
    frames, _ = clip
    crowd = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8) + 2, 8, axis=0).repeat(12, axis=1)
    for name, labels in (("first", crowd == 9), ("crowd", crowd)):
        image = Image.fromarray(labels.astype(np.uint8), "P")
        image.putpalette([value * step % 256 for value in range(256) for step in (1, 5, 11)])
        image.save(tmp_path / f"{name}.png")

    def follow(removed, **options):
        plan = PromptPlan(tmp_path / "first.png", [], [f"5={tmp_path / 'crowd.png'}"], False, removed=removed)
        tracker = mm.Tracker(tiny_model, budget=options.pop("budget", None), short_side=None)
        mm.segment(frames, tracker, tmp_path / "out", plan, **options)

    with refusal(BudgetError, "16842752 bytes", "at least", "fewer objects"):
        follow([], budget=mm.Budget(bytes=2**24 + 2**16))
    taken = estimate_memory(mm.Tracker(tiny_model, short_side=None), (64, 96), 64, num_writers=2)
    with refusal(BudgetError, "65 objects"):
        follow([], max_memory=taken.total)
    assert not (tmp_path / "out").exists()
    follow(["5:1"], max_memory=taken.total + 2**26)
    assert len(masks_in(tmp_path / "out")) == 14


def test_a_memory_without_a_limit_cannot_be_promised(tiny_model):
    with refusal(BudgetError, "KeepAll"):
        estimate_memory(mm.Tracker(tiny_model, policy="keep-all", short_side=None), (64, 96), 1)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and still alive, and the most that there ever were.

    Views of the weights are not counted.
    """

    def __init__(self, model):
        super().__init__()
        self.now = self.most = 0
        self.known = {weight.untyped_storage()._cdata for weight in model.parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage):
        address, size = storage._cdata, storage.nbytes()
        if address in self.known:
            return
        self.known.add(address)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.gone, address, size)

    def gone(self, address, size):
        self.known.discard(address)
        self.now -= size


@pytest.mark.parametrize("config", ["compact", "stcn"])
@pytest.mark.parametrize("num_objects", [1, 3])
def test_the_network_takes_no_more_than_the_estimate(config, num_objects):
    from mnemask.model.stcn import COMPACT, STCN_SIZE

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = STCN({"compact": COMPACT, "stcn": STCN_SIZE}[config]).requires_grad_(False).eval()
    frames, _ = drawn_clip(3, 160, 240, num_objects=1)
    strips = {number + 1: torch.zeros(160, 240, dtype=torch.bool) for number in range(num_objects)}
    for number, mask in enumerate(strips.values()):
        mask[:, 20 * number : 20 * number + 20] = True
    tracker = mm.Tracker(model, policy=LFU(write_every=1), short_side=None)
    with LiveBytes(model) as live:
        for index, frame in enumerate(frames):
            tracker.step(frame, strips if index == 0 else None)
    taken = estimate_memory(tracker, (160, 240), num_objects)
    allowed = taken.bank + taken.reading + taken.network
    assert live.most < allowed
    assert activation_bytes((160, 240), num_objects) < 4 * live.most, "a promise that is of use"
