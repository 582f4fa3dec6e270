"""Masks of hours of video in a few Parquet files, which a kill leaves readable and a resumed run continues."""

import numpy as np
import pytest
import torch

from mnemask.io import MaskWriter, parquet
from mnemask.io.label_files import label_paths, read_labels
from mnemask.types import Frame, Masks

pytest.importorskip("pyarrow")


def labels_of(index):
    labels = torch.zeros(24, 31, dtype=torch.int32)
    if index != 4:
        labels[2 + index : 9 + index, 3:17] = 300
        labels[4 + index : 6 + index, 5:9] = 2
    return labels


def write(writer, indices, step=1.0):
    for index in indices:
        labels = labels_of(index)
        probs = torch.stack([labels == each for each in (0, 2, 300)]).float()
        frame = Frame(torch.zeros(3, 24, 31, dtype=torch.uint8), index, index * step)
        writer.write(Masks(labels, probs, (2, 300), index), frame)


def assert_holds(folder, count):
    paths = label_paths(folder)
    assert [path.name for path in paths] == [f"{index:05d}" for index in range(count)]
    for index, path in enumerate(paths):
        labels = read_labels(path)
        assert np.array_equal(labels, labels_of(index))
        assert labels.dtype == (np.uint8 if index == 4 else np.uint16)


@pytest.mark.parametrize(("frames", "step"), [(3, 1.0), (90_000, 1200.0)])
def test_a_file_is_ended_after_so_many_frames_or_an_hour(tmp_path, monkeypatch, frames, step):
    monkeypatch.setattr(parquet, "_FRAMES", frames)
    with MaskWriter(tmp_path, "parquet", objects={2: "camel:Bobby"}) as writer:
        write(writer, range(8), step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"masks-0000{part}.parquet" for part in range(3)]
    assert_holds(tmp_path, 8)
    row = parquet.ParquetLabels(tmp_path / "masks-00000.parquet")
    assert {i: str(info) for i, info in row.objects.items()} == {2: "camel:Bobby", 300: ""}


@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_run_that_was_cut_off_is_resumed_after_any_frame(tmp_path, monkeypatch, at):
    monkeypatch.setattr(parquet, "_FRAMES", 3)
    out, journal = tmp_path / "out", tmp_path / "journal"
    journal.mkdir()
    with MaskWriter(out, "parquet", journal=journal) as writer:
        write(writer, range(at))
        state = writer.resume_state().result()
        write(writer, range(at, 7))  # which is lost
    with MaskWriter(out, "parquet", journal=journal, resume_state=state) as writer:
        write(writer, range(at, 8))
    assert_holds(out, 8)


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "masks-00000.parquet").write_bytes(b"nothing")
    with pytest.raises(parquet.MaskError, match=r"masks-00000\.parquet"):
        label_paths(tmp_path)
