"""The trainer on drawn squares: it learns, stops, goes on exactly, and shares out its work."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from math import nan
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from refusals import refusal
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import TINY, Squares, recipe, start

import mnemask as mm
from mnemask.errors import CheckpointError, FrameError, InputError
from mnemask.model.stcn import STCN
from mnemask.training import run
from mnemask.training.clip_tracker import MemoryInUse
from mnemask.training.data import Batches, load
from mnemask.training.losses import RootDecay
from mnemask.training.recipes import Phase
from mnemask.training.regularizers import Dropout
from mnemask.training.trainer import RunOptions, TensorBoard, Training

pytestmark = pytest.mark.usefixtures("narrow_encoders")


class OneClip(Squares):
    """The same clip again and again."""

    def draw(self, rng, shape):
        import numpy as np

        return super().draw(np.random.default_rng(1), shape)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_one_clip_is_learnt_by_heart(tmp_path):
    reports = []
    changes = {"learning_rate": 4e-3, "clip_norm": 1.0, "max_objects": 1, "ema": None}
    start(tmp_path, OneClip(), steps=150, batch=1, **changes).run(reports.append)
    assert reports[-1].iou > 0.95


def test_a_run_leaves_weights_that_track_a_log_and_curves(tmp_path):
    reports = []
    training = start(tmp_path, steps=12)
    training.run(reports.append)
    assert [report.step for report in reports] == [1, 10, 12]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 10, 12]
    assert list((tmp_path / "board").glob("events*"))
    model = mm.load_model(tmp_path / "model.safetensors", dtype=torch.float32)
    averaged = training.averaged_model().state_dict()
    assert all(torch.allclose(value, averaged[name], atol=1e-2) for name, value in model.state_dict().items())


@pytest.mark.parametrize("regularizer", [None, Dropout(0.5)])
def test_a_run_killed_and_taken_up_again_equals_one_that_was_not(tmp_path, monkeypatch, regularizer):
    whole = start(tmp_path / "whole", steps=6, regularizer=regularizer)
    whole.run()

    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    killed = start(tmp_path / "killed", steps=6, regularizer=regularizer)
    killed.validate = _die_at_step_4
    killed.options = RunOptions(validate_every=4)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = start(tmp_path / "killed", steps=6, regularizer=regularizer)
    assert again.step == 4  # which is saved before it is scored
    again.run()

    one, other = (load_file(tmp_path / name / "latest.safetensors") for name in ("whole", "killed"))
    assert any(name.startswith("optimizer/") for name in one)
    assert same(one, other)
    assert same(*(load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")))


def _die_at_step_4(model):
    raise KeyboardInterrupt


MEMORY = {
    "memory": MemoryInUse(0.5, 0.5, bounded=0.5, capacities=(1.5, 2.0), kmn_sigma=0.2),
    "phases": (Phase(1.0, 64, (3, 4, 5)),),
}


def test_a_run_with_its_memory_in_the_loop_goes_on_exactly(tmp_path):
    start(tmp_path / "whole", steps=6, **MEMORY).run()
    start(tmp_path / "parts", steps=6, options=RunOptions(minutes=0.0), **MEMORY).run()
    assert start(tmp_path / "parts", steps=6, **MEMORY).step == 1
    start(tmp_path / "parts", steps=6, **MEMORY).run()
    assert same(*(load_file(tmp_path / name / "latest.safetensors") for name in ("whole", "parts")))


def test_a_branch_begins_with_the_weights_average_and_moments_of_a_trunk_and_counts_anew(tmp_path):
    trunk = start(tmp_path / "trunk", steps=3, ema=0.9)
    trunk.run()
    latest = tmp_path / "trunk" / "latest.safetensors"
    before = load_file(latest)
    branch = start(tmp_path / "branch", steps=2, ema=0.8, schedule=RootDecay(), branch_from=latest)
    assert branch.step == 0
    branch.save()
    assert same(before, load_file(tmp_path / "branch" / "latest.safetensors"))
    branch.run()
    assert branch.finished
    assert same(before, load_file(latest))  # the trunk goes on from before
    # Taken up again it is its own run, not the trunk's.
    assert start(tmp_path / "branch", steps=2, ema=0.8, schedule=RootDecay(), branch_from=latest).step == 2


def test_gradients_added_up_over_parts_equal_those_of_the_whole_batch(tmp_path):
    once = start(tmp_path / "once", batch=4)
    twice = start(tmp_path / "twice", batch=4, options=RunOptions(parts=2))
    for training in (once, twice):
        training.train_step(load(training.batches, 0, 0, pin=False))
    for one, other in zip(once.model.parameters(), twice.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_two_processes_agree_with_one_of_twice_the_batch(tmp_path):
    """Under torchrun, with gloo, as on several machines."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from lightning_fabric import Fabric\n"
        "from training_run import TINY, Squares, recipe\n"
        "from mnemask.model import resnet\n"
        "from mnemask.model.stcn import STCN\n"
        "from mnemask.training.trainer import Training\n"
        "resnet.STAGE_CHANNELS = (8, 16, 32)\n"
        "fabric = Fabric(accelerator='cpu', devices=2, strategy='ddp'); fabric.launch()\n"
        "torch.manual_seed(0)\n"
        "Training(fabric, recipe(steps=3, batch=4), Squares(), STCN(TINY), Path(sys.argv[1])).run()\n"
    )
    out = tmp_path / "two"
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, out]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    start(tmp_path / "one", steps=3, batch=4).run()
    one, two = (load_file(tmp_path / name / "latest.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith("model/"):
            torch.testing.assert_close(one[name], two[name], atol=2e-4, rtol=1e-3)


def test_clips_are_the_same_however_they_are_shared_out():
    whole = Batches(Squares(), recipe(batch=4))
    shares = [Batches(Squares(), recipe(batch=4), rank=rank, world=2) for rank in (0, 1)]
    parts = Batches(Squares(), recipe(batch=4), parts=2)
    for step in range(3):
        frames = whole[step].frames
        assert torch.equal(frames, torch.cat([share[step].frames for share in shares]))
        assert torch.equal(frames, torch.cat([parts[2 * step + part].frames for part in (0, 1)]))


def test_a_run_whose_worker_is_killed_saves_and_says_how_to_go_on(tmp_path):
    def kill_workers(report):
        for worker in active_children():
            worker.kill()
            worker.join()

    training = start(tmp_path, options=RunOptions(workers=1), steps=30)
    with refusal(InputError, "prepares clips was killed", "--resume and fewer --workers"):
        training.run(kill_workers)
    assert start(tmp_path, steps=30).step == training.step > 0


def test_a_run_whose_data_cannot_be_read_saves_the_steps_before(tmp_path):
    class Damaged(Squares):
        def draw(self, rng, shape):
            if training.step == 2:
                raise FrameError("001.jpg cannot be read", "restore it")
            return super().draw(rng, shape)

    training = start(tmp_path, Damaged())
    with refusal(FrameError, "001"):
        training.run()
    assert start(tmp_path).step == 2


def test_workers_draw_the_clips_that_would_be_drawn_without_them():
    batches = Batches(Squares(), recipe(steps=3))
    for one, other in zip(load(batches, 1, 0, pin=False), load(batches, 1, 1, pin=False), strict=True):
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.valid, other.valid)


def test_what_is_frozen_stays_and_all_else_learns(tmp_path):
    training = start(tmp_path, frozen=("key_encoder.conv1", "key_encoder.layer1"))
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    training.train_step(load(training.batches, 0, 0, pin=False))
    for name, value in training.model.named_parameters():
        frozen = name.startswith(("key_encoder.conv1", "key_encoder.layer1"))
        assert torch.equal(value, before[name]) == frozen, name


def test_the_average_follows_the_weights_slowly(tmp_path):
    training = start(tmp_path, steps=30, ema=0.9)
    training.step = 1000  # far from the start, where the average is short
    before = {name: value.clone() for name, value in training.average.weights.items()}
    training.recipe = recipe(steps=2000, ema=0.9)
    training.train_step(iter([training.batches[0]]))
    for name, value in training.average.weights.items():
        expected = 0.9 * before[name] + 0.1 * training.trained[name].detach()
        torch.testing.assert_close(value, expected)


def test_a_sitting_ends_after_its_minutes_and_the_run_goes_on(tmp_path):
    first = start(tmp_path, steps=5, options=RunOptions(minutes=0.0))
    first.run()
    assert first.step == 1
    assert not first.finished
    second = start(tmp_path, steps=5)
    second.run()
    assert second.finished
    assert second.seconds > first.seconds > 0


def test_what_a_run_logged_after_its_last_checkpoint_is_not_logged_twice(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    start(tmp_path, steps=2).run()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_the_curves_of_a_run_keep_their_points_when_it_resumes(tmp_path):
    def curve():
        curves = EventAccumulator(str(tmp_path / "board")).Reload()
        return [point.step for point in curves.Scalars("loss")]

    for number, minutes in enumerate((0.0, 0.0, None, None)):  # the last start finds a finished run
        start(tmp_path, steps=11, options=RunOptions(minutes=minutes)).run()
        for file in (tmp_path / "board").glob("events*"):
            # TensorBoard reads files in the order of their names, which contain the time in whole seconds.
            file.rename(file.with_name(f"{number}.tfevents"))
        logged = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert curve() == logged
    assert logged == [1, 10, 11]


def test_points_that_a_killed_run_drew_after_its_last_checkpoint_are_hidden(tmp_path):
    for number, done in enumerate((0, 0, 2)):
        with TensorBoard(tmp_path, done, active=True) as board:
            for step in range(done + 1, 4):
                board.scalars(step, {"loss": float(number)})
        next(tmp_path.glob("events*")).rename(tmp_path / f"{number}.tfevents")
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_clips_of_a_batch_have_room_for_equally_many_objects(tmp_path):
    batches = Batches(Squares(), recipe(batch=4, max_objects=2, steps=20))
    seen = {tuple(row) for index in range(20) for row in batches[index].valid.tolist()}
    assert seen == {(True,), (True, False), (True, True)}


def test_bfloat16_trains(tmp_path):
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    training = Training(fabric, recipe(), Squares(), STCN(TINY), tmp_path)
    loss, *_ = training.train_step(load(training.batches, 0, 0, pin=False))
    assert torch.isfinite(loss)


def test_another_setting_is_refused(tmp_path):
    start(tmp_path, steps=1).run()
    with refusal(InputError, r"learning_rate", r"0.0002", r"0.1"):
        start(tmp_path, steps=1, learning_rate=0.1)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    with refusal(InputError, "processes"):
        start(tmp_path, options=RunOptions(parts=3))


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_run_is_refused(tmp_path, content):
    (tmp_path / "latest.safetensors").write_bytes(content)
    with refusal(CheckpointError, "cannot"):
        start(tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    training = start(tmp_path, steps=30, clip_norm=None)
    with torch.no_grad():
        training.model.key_compression.weight.fill_(torch.nan)
    with refusal(InputError, "precision"):
        training.run()
    assert not (tmp_path / "latest.safetensors").exists()


def spoil_weights(training):
    training.model.key_compression.weight[0, 0] = torch.nan


def spoil_moments(training):
    training.optimizer.optimizer.state[training.model.key_compression.weight]["exp_avg_sq"][0] = torch.inf


def spoil_average(training):
    next(iter(training.average.weights.values()))[0] = torch.nan


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_moments, spoil_average])
@pytest.mark.parametrize("stopped", [False, True])
def test_what_is_not_finite_does_not_overwrite_the_last_good_checkpoint(tmp_path, monkeypatch, spoil, stopped):
    """Between two steps whose loss is looked at: saved because it is time, or because the run is to stop."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    training = start(tmp_path, steps=9, ema=0.9)
    take_step = training.train_step

    def spoilt(batches):
        result = take_step(batches)
        if training.step == 4:
            training.stop_asked = stopped
            with torch.no_grad():
                spoil(training)
        return result

    training.train_step = spoilt
    latest = tmp_path / "latest.safetensors"
    with refusal(InputError, "precision"):
        training.run()
    assert all(bool(torch.isfinite(value).all()) for value in load_file(latest).values())
    assert not (tmp_path / "model.safetensors").exists()
    assert start(tmp_path, steps=9, ema=0.9).step == 4


def test_crops_must_suit_the_network():
    with refusal(InputError, r"100", r"16"):
        recipe(phases=(Phase(1.0, 100),))


@pytest.mark.parametrize("wrong", [{"learning_rate": nan}, {"learning_rate": -1.0}, {"learning_rate": 0.0}])
def test_numbers_that_cannot_train_are_refused(wrong):
    with refusal(InputError, "cannot"):
        recipe(**wrong)


def test_a_checkpoint_with_other_numbers_than_were_written_is_refused(tmp_path):
    start(tmp_path, steps=2).run()
    path = tmp_path / "latest.safetensors"
    data = bytearray(path.read_bytes())
    data[-5000] ^= 128
    path.write_bytes(bytes(data))
    with refusal(CheckpointError, "checksum"):
        start(tmp_path, steps=2)


def test_a_log_that_was_cut_off_in_a_line_goes_on(tmp_path):
    start(tmp_path, steps=2).run()
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 2, "lo')
    start(tmp_path, steps=2).run()
    assert log.read_text() == whole


def test_a_run_goes_on_where_a_setting_is_newer_than_it_and_leaves_other_files_alone(tmp_path, monkeypatch):
    notes = tmp_path / "mine.jsonl"
    notes.write_text('{"note": "of the user"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(run, "fields", lambda recipe: [f for f in fields(recipe) if f.name != "min_objects"])
        start(tmp_path, steps=4, options=RunOptions(minutes=0.0)).run()
    again = start(tmp_path, steps=4)
    assert again.step > 0
    assert notes.read_text() == '{"note": "of the user"}\n'


def test_the_same_weights_are_the_same_bytes_and_for_all_to_read(tmp_path):
    for name in ("one", "two"):
        start(tmp_path / name, steps=1).run()
    one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_mode == (tmp_path / "one/log.jsonl").stat().st_mode


def test_a_run_that_goes_on_with_other_data_says_so(tmp_path, caplog):
    def begin(data):
        fabric = Fabric(accelerator="cpu", devices=1)
        origin = {"data": data}
        return Training(fabric, recipe(steps=2), Squares(), STCN(TINY), tmp_path, origin=origin)

    begin("dogs").run()
    begin("dogs")
    assert not caplog.messages
    begin("cats")
    assert "its data: cats now, dogs before" in caplog.text
    caplog.clear()
    begin("")
    assert not caplog.messages


def test_what_a_resumed_run_is_not_told_again_stays_on_record(tmp_path, caplog):
    for data in ("dogs", "", "cats"):
        fabric = Fabric(accelerator="cpu", devices=1)
        Training(fabric, recipe(steps=2), Squares(), STCN(TINY), tmp_path, origin={"data": data}).save()
    assert "its data: cats now, dogs before" in caplog.text
