"""What a run wrote in a folder, and what of that it must remember."""

import errno
import os
import stat
import tracemalloc

import pytest
from refusals import refusal

from mnemask.errors import OutputError
from mnemask.io.atomic import make_durable
from mnemask.io.written import Written


def publish(written, path, content=b"mask"):
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    written.publish(partial, path)
    return path


def test_a_long_run_remembers_nothing_of_the_files_that_it_wrote(tmp_path):
    written, number = Written(tmp_path), 3000
    publish(written, tmp_path / "first.png")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(number):
            publish(written, tmp_path / f"{index:05d}.png")
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20 * number
    assert len(written.files()) == number + 1


def test_a_long_run_ends_without_all_that_it_wrote_in_memory(tmp_path):
    written, number = Written(tmp_path), 3000
    for index in range(number):
        publish(written, tmp_path / f"{index:05d}.png")
    left = publish(written, tmp_path / "left.partial")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        written.write(tmp_path / "report.json", "1")
        written.remove(left, tmp_path / "never.partial")
        written.write(tmp_path / "report.json", "2")
        assert written.owns(tmp_path / "02999.png")
        assert written.missing() == [left]
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < 200 * number  # of which a digest takes 256 KiB at once, and the whole index would take 480 each
    assert (tmp_path / "report.json").read_text() == "2"


def test_nothing_is_looked_up_of_a_file_that_is_not_there(tmp_path, monkeypatch):
    written = Written(tmp_path)
    publish(written, tmp_path / "0.png")
    monkeypatch.setattr(Written, "_read", lambda self: pytest.fail("the index is read"))
    written.remove(tmp_path / "0.partial.png")
    written.write(tmp_path / "report.json", "1")
    written.write(tmp_path / "report.json", "2")


def test_what_it_wrote_is_its_own_all_the_same(tmp_path):
    written = Written(tmp_path)
    one, two, three = (publish(written, tmp_path / f"{name}.png") for name in ("one", "two", "three"))
    (tmp_path / "mine.png").write_bytes(b"mine")
    two.write_bytes(b"changed")
    assert [written.owns(path) for path in (one, two, three, tmp_path / "mine.png")] == [True, False, True, False]
    assert written.files() == [one, three]
    assert written.since(one) == [two, three]
    written.refuse_foreign(one, three)
    with refusal(OutputError, "two.png"):
        written.refuse_foreign(one, two, three)
    written.remove(one, two, three, tmp_path / "mine.png")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["mine.png", "two.png"]
    assert written.missing() == [one, three]


def test_no_file_is_written_twice_by_one_run_but_by_another(tmp_path):
    written = Written(tmp_path)
    path = publish(written, tmp_path / "0.png", b"1")
    with refusal(OutputError, "twice"):
        publish(written, path, b"2")
    again = Written(tmp_path)
    publish(again, path, b"3")
    with refusal(OutputError, "twice"):
        publish(again, path, b"4")
    assert path.read_bytes() == b"3"


@pytest.mark.parametrize("first", ["publish", "write"])
def test_a_report_is_written_again_and_again(tmp_path, first):
    written, path = Written(tmp_path), tmp_path / "report.json"
    publish(written, path) if first == "publish" else written.write(path, "0")
    publish(written, tmp_path / "other")
    for text in ("1", "2"):
        written.write(path, text)
        assert path.read_text() == text
    path.write_text("mine")
    with refusal(OutputError, "never"):
        written.write(path, "3")
    assert path.read_text() == "mine"


def test_all_that_was_published_is_removed_and_nothing_else(tmp_path):
    written = Written(tmp_path)
    (tmp_path / "masks").mkdir()
    publish(written, tmp_path / "masks/0.png")
    publish(written, tmp_path / "masks/1.png").write_bytes(b"changed")
    publish(written, tmp_path / "report.json")
    written.remove_all()
    assert [path.name for path in tmp_path.rglob("*.*")] == ["1.png"]
    assert written.files() == []
    with refusal(OutputError, "1.png"):
        publish(written, tmp_path / "masks/1.png")
    (tmp_path / "masks/1.png.partial").unlink()


def test_a_finished_folder_gets_a_free_name_only_and_its_files_are_the_runs_own(tmp_path):
    partial, target = tmp_path / ".masks.partial", tmp_path / "masks"
    (partial / "1").mkdir(parents=True)
    (partial / "1/00000.png").write_bytes(b"mask")
    target.mkdir()
    written = Written(tmp_path)
    with refusal(OutputError, "masks"):
        written.adopt(partial, target)
    assert written.files() == []
    target.rmdir()
    written.adopt(partial, target)
    assert Written(tmp_path).files() == [target / "1/00000.png"]
    assert not partial.exists()


def test_the_index_of_a_long_run_reaches_the_disk_now_and_then_before_the_files_have_names(tmp_path, monkeypatch):
    clock, synced = [0.0], []
    monkeypatch.setattr("mnemask.io.written.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "mnemask.io.written.make_durable", lambda path: synced.append(len(list(tmp_path.glob("*.png"))))
    )
    written = Written(tmp_path)
    for index in range(30):
        clock[0] = index * 0.5
        publish(written, tmp_path / f"{index}.png")
    assert synced == [5, 10, 15, 20, 25]


@pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_drive_that_cannot_sync_folders_is_written_to_all_the_same(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def refusing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refusing)
    path = tmp_path / "a.png"
    path.write_bytes(b"mask")
    if number == errno.EINVAL:
        make_durable(path)
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            make_durable(path)
