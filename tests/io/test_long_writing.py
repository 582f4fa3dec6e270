"""Writers that go on where a checkpoint left them, and leave no hole where one frame could not be written."""

import resource
import shutil

import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.errors import OutputError
from mnemask.io import MASK_FORMATS, MaskWriter, VideoReader
from mnemask.io.edges import Cutout, Edges
from mnemask.types import Frame, Masks

NUM_FRAMES = 110


def labelled(index, size=(32, 48)):
    labels = torch.zeros(size, dtype=torch.int32)
    labels[4:20, index % 30 : index % 30 + 12] = 1
    if index >= 20:
        labels[22:30, 5:25] = 300 if index >= 40 else 2
    ids = tuple(int(label) for label in labels.unique() if label)
    probs = torch.stack([labels == object_id for object_id in (0, *ids)]).float()
    texture = torch.from_numpy(np.random.default_rng(index).integers(0, 256, (3, *size), np.uint8))
    return Masks(labels, probs, ids, index), Frame(texture, index, index / 30)


def write(writer, start, stop, clip=labelled):
    for index in range(start, stop):
        writer.write(*clip(index))


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def narrow(index):
    """Ids that fit into a label video begun with 8 bits."""
    masks, frame = labelled(min(index, 39))
    shown = Frame(frame.image, index, index / 30)
    return Masks(masks.labels.roll(index, 1), masks.probs.roll(index, 2), masks.object_ids, index), shown


SMOOTH = Cutout(edges=Edges(smooth=5, grow=1))


@pytest.mark.parametrize(
    ("format", "cutout"), [*((format, None) for format in MASK_FORMATS), ("matte", SMOOTH), ("rgba", SMOOTH)]
)
def test_a_writer_goes_on_after_a_mark_to_the_same_bytes_however_often(tmp_path, format, cutout):
    with MaskWriter(tmp_path / "whole", format, cutout=cutout) as writer:
        write(writer, 0, NUM_FRAMES, narrow)
    journal, resume_state, done = tmp_path / "journal", None, 0
    journal.mkdir()
    for _ in range(3):
        writer = MaskWriter(tmp_path / "parts", format, journal=journal, resume_state=resume_state, cutout=cutout)
        last = min(done + max(writer.stretch, 30), NUM_FRAMES)
        write(writer, done, last, narrow)
        resume_state, done = writer.resume_state().result(), last if last % writer.stretch == 0 else done
        writer.sync()
        # Three more frames, and then the process is no more: what it left is what others see.
        write(writer, last, last + 3, narrow)
        shutil.copytree(journal, tmp_path / "copy")
        writer.close()
        shutil.rmtree(journal)
        (tmp_path / "copy").rename(journal)
        if done + max(writer.stretch, 30) > NUM_FRAMES:
            break
    with MaskWriter(tmp_path / "parts", format, journal=journal, resume_state=resume_state, cutout=cutout) as writer:
        write(writer, done, NUM_FRAMES, narrow)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert done >= 60


@pytest.mark.parametrize("format", ["ffv1", "overlay"])
def test_stretches_follow_each_other_without_a_gap_in_time(tmp_path, format):
    with MaskWriter(tmp_path, format) as writer:
        write(writer, 0, NUM_FRAMES, narrow)
    with VideoReader(next(tmp_path.iterdir())) as video:
        times = [frame.seconds for frame in video]
    assert times == pytest.approx([index / 30 for index in range(NUM_FRAMES)], abs=1e-3)


@pytest.mark.parametrize("format", ["ffv1", "overlay"])
def test_an_unfinished_video_plays_up_to_where_it_was_cut_off(tmp_path, format):
    journal = tmp_path / "journal"
    journal.mkdir()
    writer = MaskWriter(tmp_path / "out", format, journal=journal)
    write(writer, 0, 60, narrow)
    writer.sync()
    path = next(journal.iterdir())
    shutil.copy(path, tmp_path / "seen.nut")
    writer.close()
    with VideoReader(tmp_path / "seen.nut", on_corrupt="skip") as video:
        assert sum(1 for _ in video) >= 48


def test_a_journal_that_lost_frames_is_refused(tmp_path):
    with MaskWriter(tmp_path / "out", "ffv1", journal=tmp_path) as writer:
        write(writer, 0, 48, narrow)
        resume_state = writer.resume_state().result()
    path = next(tmp_path.glob("*.nut"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with refusal(OutputError, r"48"):
        MaskWriter(tmp_path / "out", "ffv1", journal=tmp_path, resume_state=resume_state)
    path.unlink()
    with refusal(OutputError, "frames"):
        MaskWriter(tmp_path / "out", "ffv1", journal=tmp_path, resume_state=resume_state)


@pytest.fixture
def small_files():
    """No file can grow beyond 3 kB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_after_a_frame_that_could_not_be_written_no_later_one_is(tmp_path, small_files):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (256, 256), np.int32))

    def fails_at_5(index):
        labels = noise if index == 5 else torch.zeros_like(noise)
        return Masks(labels, torch.stack((labels == 0, labels == 1)).float(), (1,), index), None

    writer = MaskWriter(tmp_path)
    with refusal(OutputError, "cannot"):
        write(writer, 0, 50, fails_at_5)
    with refusal(OutputError, "written"):
        writer.resume_state().result()
    with refusal(OutputError, "written"):
        writer.sync()
    writer._executor.shutdown()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{index:05d}.png" for index in range(5)]
