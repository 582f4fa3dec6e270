"""A run that was cut off at any moment goes on, and its files are those of one that was not, bit for bit."""

import contextlib
import copy
import errno
import json
import os
import pydoc
import shutil
from dataclasses import replace

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import CheckpointError, InputError, OutputError
from mnemask.io.table import packed
from mnemask.io.written import Written
from mnemask.memory.storage import load_bank, save_bank
from mnemask.model.stcn import STCN
from mnemask.pipeline import VideoOutputs, find_checkpoint, is_complete

NUM_FRAMES, DIES_AT = 56, 52  # a stretch of video is 48 frames
SETTINGS = {"video": "drawn", "policy": "lfu-pinned"}


@pytest.fixture(scope="session")
def long_clip():
    frames, masks = drawn_clip(NUM_FRAMES, 32, 48, num_objects=2)
    corner = torch.zeros(32, 48, dtype=torch.bool)
    corner[:9, :9] = True
    prompts = {0: {1: masks[0, 0]}, 4: {2: masks[4, 1]}, 51: {9: corner}, 54: {2: ~corner}}
    return [mm.Frame(frame, index, index / 30) for index, frame in enumerate(frames)], prompts


@pytest.fixture(scope="session")
def clip(long_clip):
    frames, prompts = long_clip
    return frames[:12], prompts


def run(tiny_model, out, clip, resume=None, **options):
    frames, prompts = clip
    start, tracker = 0, mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=None)
    if resume is not None:
        start, tracker = resume.last_frame, mm.Tracker.from_state(resume.state, tiny_model)
    options = {"settings": SETTINGS, "checkpoint_every": 0.0, **options}
    return mm.segment(frames[start:], tracker, out, lambda frame: prompts.get(frame.index), resume=resume, **options)


def go_on(tiny_model, out, clip, **options):
    checkpoint = find_checkpoint(out, torch.device("cpu"), SETTINGS)
    assert checkpoint is not None
    return checkpoint.position, run(tiny_model, out, clip, checkpoint, **options)


def seen_now(alive, dead):
    """Copies a folder that a thread still writes in: a file that is renamed meanwhile is not there, as after a kill."""

    def copy(source, target):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)

    shutil.copytree(alive, dead, copy_function=copy)
    shutil.copyfile(
        alive / ".mnemask-written", dead / ".mnemask-written"
    )  # which knew of each file before it was there


def killed(tiny_model, out, clip, at=8, **options):
    """What a run would leave on the disk if it were killed after this frame: what another process sees just then."""

    def copy(progress, masks):
        if masks.index == at:
            seen_now(out.with_name("alive"), out)

    run(tiny_model, out.with_name("alive"), clip, on_frame=copy, **options)


def files(out):
    """The content of every file but the report and the index of files, which hold times."""
    told = ("report.json", ".mnemask-written", ".mnemask-lock")
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.name not in told)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle"])
def test_a_run_that_was_killed_goes_on_to_identical_files(tiny_model, tmp_path, long_clip, mask_format):
    options = {"mask_format": mask_format, "videos": VideoOutputs(("overlay",))}
    run(tiny_model, tmp_path / "whole", long_clip, checkpoint_every=None, **options)
    killed(tiny_model, tmp_path / "killed", long_clip, DIES_AT, **options)
    assert files(tmp_path / "alive") == files(tmp_path / "whole")
    position, progress = go_on(tiny_model, tmp_path / "killed", long_clip, **options)
    assert position == 48  # where the last stretch of the overlay ended
    assert progress.complete
    assert (progress.frames, progress.resumed_at) == (NUM_FRAMES, [48])
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) > 1


@pytest.mark.parametrize("mask_format", ["png", "rgba", "rle"])
def test_a_run_that_is_killed_again_and_again_goes_on_too(tiny_model, tmp_path, clip, mask_format):
    run(tiny_model, tmp_path / "whole", clip, mask_format=mask_format)
    killed(tiny_model, tmp_path / "first", clip, at=5, mask_format=mask_format)

    def copy(progress, masks):
        if masks.index == 9:
            seen_now(tmp_path / "first", tmp_path / "second")

    go_on(tiny_model, tmp_path / "first", clip, mask_format=mask_format, on_frame=copy)
    _, progress = go_on(tiny_model, tmp_path / "second", clip, mask_format=mask_format)
    assert progress.resumed_at == [6, 10]
    assert files(tmp_path / "second") == files(tmp_path / "whole")


def test_a_run_that_was_killed_after_its_last_frame_has_only_to_be_ended(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=11, mask_format="rle")
    position, progress = go_on(tiny_model, tmp_path / "killed", clip, mask_format="rle")
    assert (position, progress.frames, progress.complete) == (12, 12, True)
    assert files(tmp_path / "killed") == files(tmp_path / "alive")


def test_the_report_of_a_run_that_only_had_to_be_ended_is_whole(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=11)
    go_on(tiny_model, tmp_path / "killed", clip)
    memory = [json.loads((tmp_path / name / "report.json").read_text())["memory"] for name in ("killed", "alive")]
    assert memory[0] == memory[1]
    assert memory[0]["tokens"] > 0


class Promised:
    """Prompts whose ids are known beforehand, as those of the command line are."""

    def __init__(self, prompts):
        self.left = dict(prompts)

    @property
    def to_come(self):
        return {frame: tuple(given) for frame, given in self.left.items()}

    def __call__(self, frame):
        return self.left.pop(frame.index, None)


def test_a_late_id_above_255_fits_into_a_label_video_that_begins_again(tiny_model, tmp_path, clip):
    frames, prompts = clip
    given = {0: prompts[0], 4: prompts[4], 6: {300: prompts[4][2]}}

    def follow(out, resume=None, **options):
        tracker = mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=None)
        if resume is not None:
            tracker = mm.Tracker.from_state(resume.state, tiny_model)
        options |= {"settings": SETTINGS, "mask_format": "ffv1", "resume": resume}
        mm.segment(frames, tracker, out, Promised(given), **options)

    def copy(progress, masks):
        if masks.index == 3:
            seen_now(tmp_path / "alive", tmp_path / "killed")

    follow(tmp_path / "alive", on_frame=copy)
    follow(tmp_path / "killed", find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS))
    assert files(tmp_path / "killed") == files(tmp_path / "alive")


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("place", "every"), [("mnemask.pipeline.checkpoint.make_folder", 0.0), ("pathlib.Path.touch", None)]
)
def test_a_run_that_is_killed_just_as_it_made_a_place_begins_again(
    tiny_model, tmp_path, clip, monkeypatch, place, every
):
    how = {"mask_format": "rle", "checkpoint_every": every}
    make = pydoc.locate(place)

    def make_and_die(path):
        make(path)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(place, make_and_die)
        with pytest.raises(KilledError):
            run(tiny_model, tmp_path / "killed", clip, **how)
    run(tiny_model, tmp_path / "killed", clip, overwrite=True, **how)
    run(tiny_model, tmp_path / "alive", clip, **how)
    assert files(tmp_path / "killed") == files(tmp_path / "alive")


def test_what_is_left_of_a_run_that_was_being_removed_is_not_complete(tiny_model, tmp_path, clip, monkeypatch):
    run(tiny_model, tmp_path, clip)
    unlink, gone = type(tmp_path).unlink, []

    def dying(path, *args, **kwargs):
        if len(gone) == 3:
            raise KilledError
        gone.append(path.name)
        unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", dying)
        with pytest.raises(KilledError):
            Written(tmp_path).remove_all()
    assert gone[0] == "report.json"
    assert not is_complete(tmp_path, SETTINGS)


def test_a_line_that_the_disk_tore_takes_no_other_along(tmp_path, monkeypatch):
    written, (one, two) = Written(tmp_path), (tmp_path / "one", tmp_path / "two")
    written.write(one, "1")
    with (tmp_path / ".mnemask-written").open("ab") as index:
        index.write(b'["torn", 12')
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", full_disk)
        with refusal(OutputError, "make room"):
            written.claim(tmp_path / "torn")
    written.write(two, "2")
    assert Written(tmp_path).owns(two)


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_killed_runs_hidden_files_go_when_the_folder_is_used_again(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path, clip)
    left, nested = tmp_path / ".mnemask-12-34.partial.mp4", tmp_path / "another" / ".mnemask-12-34.partial.mp4"
    nested.parent.mkdir()
    for path in (left, nested):
        path.write_bytes(b"half a video")
    run(tiny_model, tmp_path, clip, overwrite=True)
    assert not left.exists()
    assert nested.exists()  # of a run in a folder of its own


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_readable_files_and_a_report(tiny_model, tmp_path, long_clip):
    seen = []
    progress = run(
        tiny_model,
        tmp_path,
        long_clip,
        mask_format="ffv1",
        checkpoint_every=1e9,
        on_frame=lambda progress, masks: seen.append(masks.index),
        stop=lambda: "SIGTERM" if len(seen) == 50 else None,
    )
    assert (progress.complete, progress.frames, progress.stopped_by) == (False, 50, "SIGTERM")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["complete"], report["stopped_by"]) == (False, "SIGTERM")
    with mm.VideoReader(tmp_path / "masks/masks.partial.mkv") as video:
        assert sum(1 for _ in video) == 50
    assert go_on(tiny_model, tmp_path, long_clip, mask_format="ffv1")[0] == 48


def test_a_run_that_was_killed_before_its_second_frame_begins_again_with_the_same_settings(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=0, mask_format="rle", checkpoint_every=1e9)
    with refusal(CheckpointError, "policy"):
        find_checkpoint(tmp_path / "killed", torch.device("cpu"), {**SETTINGS, "policy": "lfu"})
    position, _ = go_on(tiny_model, tmp_path / "killed", clip, mask_format="rle")
    assert position == 0
    assert files(tmp_path / "killed") == files(tmp_path / "alive")


def test_what_is_before_the_first_frame_of_a_run_is_not_read_when_it_goes_on(tiny_model, tmp_path, clip):
    frames, prompts = clip
    begun = frames[2:], {2: prompts[0]}
    killed(tiny_model, tmp_path / "killed", begun, at=2, checkpoint_every=1e9)
    checkpoint = find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS)
    assert (checkpoint.position, checkpoint.last_frame) == (2, 2)
    killed(tiny_model, tmp_path / "more/killed", begun, at=4)
    checkpoint = find_checkpoint(tmp_path / "more/killed", torch.device("cpu"), SETTINGS)
    assert checkpoint.last_frame == checkpoint.position - 1


def test_a_strangers_file_among_checkpoints_stays_and_is_in_no_later_runs_way(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "out", clip)
    mine = tmp_path / "out/checkpoint/.DS_Store"
    mine.write_bytes(b"made by hand")
    for _ in range(2):
        run(tiny_model, tmp_path / "out", clip, overwrite=True)
        assert is_complete(tmp_path / "out", SETTINGS)
        assert [path.name for path in mine.parent.iterdir()] == [mine.name]


def test_a_broken_video_leaves_a_checkpoint_to_go_on_from_once_it_is_repaired(tiny_model, tmp_path, clip):
    frames, prompts = clip

    def broken():
        yield from frames[:7]
        raise mm.InputError("frame 7 is damaged", "repair it")

    with refusal(InputError, "frame"):
        run(tiny_model, tmp_path / "broken", (Sliced(broken()), prompts), checkpoint_every=1e9)
    position, _ = go_on(tiny_model, tmp_path / "broken", clip)
    run(tiny_model, tmp_path / "whole", clip)
    assert position == 7
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


class Sliced:
    """Frames that cannot be sliced, only iterated."""

    def __init__(self, frames):
        self.frames = frames

    def __getitem__(self, part):
        return self.frames


# What a checkpoint may not be used for


def test_a_run_does_not_go_on_with_other_settings(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip)
    for changed in ({"policy": "lfu"}, {"video": "another"}, {"size": 480}):
        name = next(iter(changed))
        with refusal(CheckpointError, rf"{name}"):
            find_checkpoint(tmp_path / "killed", torch.device("cpu"), {**SETTINGS, **changed})


def test_another_model_is_refused(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=5)
    checkpoint = find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS)
    with refusal(CheckpointError, "another"):
        mm.Tracker.from_state(checkpoint.state, STCN(tiny_model.config).eval())


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(tiny_model, tmp_path, clip, caplog):
    killed(tiny_model, tmp_path / "killed", clip)
    run(tiny_model, tmp_path / "whole", clip)
    banks = sorted((tmp_path / "killed/checkpoint").glob("*.bank"))
    assert len(banks) == 2
    flip(banks[1])
    position, _ = go_on(tiny_model, tmp_path / "killed", clip)
    assert position == 8
    assert "does not match its checksum" in caplog.text
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_where_every_checkpoint_is_damaged_that_is_said(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip)
    for bank in (tmp_path / "killed/checkpoint").glob("*.bank"):
        flip(bank)
    with refusal(CheckpointError, "checksum"):
        find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS)


def flip(path):
    """Changes one bit in the middle of the tensors."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 4] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_of_another_version_is_refused(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=5)
    for path in (tmp_path / "killed/checkpoint").glob("*.bank"):
        tokens, facts = load_bank(path, torch.device("cpu"))
        save_bank(path, tokens, {**facts, "run": {**facts["run"], "mnemask": "0.0.9"}})
    with refusal(CheckpointError, r"0\.0\.9"):
        find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS)


def test_a_journal_that_lost_what_the_checkpoint_counts_on_is_refused(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, mask_format="rle")
    journal = tmp_path / "killed/checkpoint/masks.partial.annotations"
    journal.write_bytes(journal.read_bytes()[:600])
    with refusal(OutputError, r"600"):
        go_on(tiny_model, tmp_path / "killed", clip, mask_format="rle")


def test_a_tracker_bank_is_no_checkpoint(tiny_model, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    mm.Tracker(tiny_model).save(tmp_path / "checkpoint/000000000001.bank")
    with refusal(CheckpointError, "checkpoint"):
        find_checkpoint(tmp_path, torch.device("cpu"), SETTINGS)


def test_an_unfinished_run_is_not_overwritten_unasked(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=5)
    with refusal(OutputError, "already"):
        run(tiny_model, tmp_path / "killed", clip)
    run(tiny_model, tmp_path / "killed", clip, overwrite=True)
    assert files(tmp_path / "killed") == files(tmp_path / "alive")


# What is left when a run is complete


def test_a_complete_run_leaves_no_checkpoint_and_is_known_as_complete(tiny_model, tmp_path, clip, caplog):
    run(tiny_model, tmp_path, clip)
    assert not (tmp_path / "checkpoint").exists()
    assert find_checkpoint(tmp_path, torch.device("cpu"), SETTINGS) is None
    assert is_complete(tmp_path, SETTINGS)
    assert not caplog.messages
    gone = next((tmp_path / "masks").iterdir())
    gone.unlink()
    assert is_complete(tmp_path, SETTINGS)
    assert gone.name in caplog.text
    with refusal(CheckpointError, "policy"):
        is_complete(tmp_path, {**SETTINGS, "policy": "lfu"})
    (tmp_path / "report.json").write_text("{")
    with refusal(CheckpointError, "report"):
        is_complete(tmp_path, SETTINGS)


def test_a_run_with_a_wrong_first_mask_leaves_nothing_to_go_on_with(tiny_model, tmp_path, clip):
    frames, _ = clip
    with refusal(InputError, "empty"):
        run(tiny_model, tmp_path, (frames, {0: {1: torch.zeros(32, 48, dtype=torch.bool)}}))
    assert not (tmp_path / "checkpoint").exists()


def test_checkpoints_are_as_rare_as_asked_and_as_small_as_the_bank(tiny_model, tmp_path, clip):
    seen = set()

    def look(progress, masks):
        seen.update((path.name, path.stat().st_size) for path in (tmp_path / "checkpoint").glob("*.bank"))

    run(tiny_model, tmp_path, clip, checkpoint_every=1e9, on_frame=look)
    assert [name for name, _ in seen] == ["000000000000.bank"]
    run(tiny_model, tmp_path, clip, overwrite=True, on_frame=look)
    assert len(seen) > 11
    assert max(size for _, size in seen) < 100_000


def test_the_same_input_gives_the_same_masks_bit_for_bit(tiny_model, tmp_path, clip):
    frames, prompts = clip
    for name in ("one", "two"):
        run(tiny_model, tmp_path / name, ([replace(frame) for frame in frames], prompts), mask_format="rgba")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_deterministic_algorithms_give_the_same_masks_bit_for_bit(tiny_model, tmp_path, clip, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    model = copy.deepcopy(tiny_model).to("cuda")
    torch.use_deterministic_algorithms(True)
    try:
        for name in ("one", "two"):
            run(model, tmp_path / name, clip, mask_format="rgba")
    finally:
        torch.use_deterministic_algorithms(False)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_masks_that_were_gone_when_a_run_went_on_are_missed_at_its_end(tiny_model, tmp_path, clip, caplog):
    killed(tiny_model, tmp_path / "killed", clip, at=7)
    gone = sorted((tmp_path / "killed/masks").iterdir())[:3]
    for path in gone:
        path.unlink()
    _, progress = go_on(tiny_model, tmp_path / "killed", clip)
    assert progress.complete
    assert "3 of its masks are gone" in caplog.text
    assert gone[0].name in caplog.text


def test_a_run_whose_only_checkpoint_is_damaged_says_how_to_begin_again(tiny_model, tmp_path, clip):
    killed(tiny_model, tmp_path / "killed", clip, at=7)
    for path in (tmp_path / "killed/checkpoint").glob("*.bank"):
        path.write_bytes(path.read_bytes()[:-40])
    with refusal(CheckpointError, "--overwrite"):
        find_checkpoint(tmp_path / "killed", torch.device("cpu"), SETTINGS)


def test_a_label_map_is_compressed_for_a_checkpoint_alone(tiny_model, tmp_path, clip, monkeypatch):
    calls = []
    monkeypatch.setattr("mnemask.pipeline.checkpoint.packed", lambda labels: calls.append(labels) or packed(labels))
    run(tiny_model, tmp_path / "seldom", clip, checkpoint_every=3600.0)
    assert not calls
    run(tiny_model, tmp_path / "often", clip, checkpoint_every=0.0)
    assert len(calls) == len(clip[0])


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle", "parquet"])
def test_what_a_complete_run_wrote_is_durable_before_its_checkpoints_go(
    tiny_model, tmp_path, clip, monkeypatch, mask_format
):
    out, synced, lost = tmp_path / "out", set(), []
    unlink, fsync = type(tmp_path).unlink, os.fsync

    def noted(handle):
        state = os.fstat(handle)
        synced.add((state.st_ino, state.st_size))
        fsync(handle)

    def watched(path, *args, **kwargs):
        # Parts of a video and the latest states go all the time, but the last checkpoint only in the end.
        if path.suffix == ".bank" and len(list(path.parent.glob("*.bank"))) == 1:
            state = {each: each.stat() for each in [*Written(out).files(), out / ".mnemask-written"] if each.is_file()}
            lost.extend(each.name for each, its in state.items() if (its.st_ino, its.st_size) not in synced)
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(type(tmp_path), "unlink", watched)
    preview = {"preview": lambda frame, given: b"a picture"}
    run(tiny_model, out, clip, mask_format=mask_format, videos=VideoOutputs(("overlay",)), **preview)
    assert len(Written(out).files()) > 4
    assert lost == []


def emptied(tiny_model, out, clip):
    """Leaves what a loss of power may: names of the files since the last checkpoint, but no content and no lines."""
    killed(tiny_model, out, clip, checkpoint_every=1e9, preview=lambda frame, given: b"a picture")
    names = []
    for path in [out / "preview.png", *(out / "masks").glob("*.png"), out / "report.json"]:
        path.write_bytes(b"")
        names.append(f'"{path.relative_to(out).as_posix()}"')
    index = out / ".mnemask-written"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if not any(name in line for name in names)))
    assert len(names) > 3
    assert not is_complete(out, SETTINGS)


@pytest.mark.parametrize("resumed", [True, False])
def test_files_that_a_loss_of_power_left_empty_are_in_no_runs_way(tiny_model, tmp_path, clip, resumed):
    emptied(tiny_model, tmp_path / "out", clip)
    preview = {"preview": lambda frame, given: b"a picture"}
    if resumed:
        go_on(tiny_model, tmp_path / "out", clip, **preview)
        (tmp_path / "out/preview.png").write_bytes(b"a picture")  # made at the first frame only
    else:
        run(tiny_model, tmp_path / "out", clip, overwrite=True, **preview)
    assert files(tmp_path / "out") == files(tmp_path / "alive")
    assert is_complete(tmp_path / "out", SETTINGS)


@pytest.mark.parametrize("name", ["masks/00011.png", "masks/00002.png", "table.csv"])
def test_what_a_user_put_there_after_a_loss_of_power_is_still_refused(tiny_model, tmp_path, clip, name):
    emptied(tiny_model, tmp_path / "out", clip)
    (tmp_path / "out" / name).write_bytes(b"mine")
    with refusal(OutputError, name.rpartition("/")[2]):
        go_on(tiny_model, tmp_path / "out", clip)
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


def test_an_empty_file_in_a_folder_without_an_unfinished_run_is_the_users(tiny_model, tmp_path, clip):
    (tmp_path / "table.csv").touch()
    with refusal(OutputError, "table.csv"):
        run(tiny_model, tmp_path, clip)


def test_no_mask_reaches_the_disk_before_the_index_that_lists_it(tiny_model, tmp_path, clip, monkeypatch):
    early, index = [], tmp_path / ".mnemask-written"
    sizes, fsync = [0], os.fsync

    def watched(handle):
        state = os.fstat(handle)
        if index.exists() and state.st_ino == index.stat().st_ino:
            sizes.append(state.st_size)
        listed = index.read_bytes()[: sizes[-1]].decode() if index.exists() else ""
        early.extend(
            path.name
            for path in (tmp_path / "masks").glob("0*.png")
            if path.stat().st_ino == state.st_ino and path.name not in listed
        )
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    run(tiny_model, tmp_path, clip)
    assert len(sizes) > 10
    assert early == []
