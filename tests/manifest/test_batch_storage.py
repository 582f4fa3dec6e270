"""Results at an address, and what is fetched from one."""

import json
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from refusals import refusal

from mnemask.errors import InputError, OutputError
from mnemask.io.lock import FolderInUseError
from mnemask.io.storage import fetched, is_fetched, reached
from mnemask.manifest.storage import batch_folder, clip_folder


@pytest.fixture
def address(request):
    yield f"memory://{request.node.name}"
    fsspec.filesystem("memory").rm("/", recursive=True)


def names(address):
    system = fsspec.filesystem("memory")
    root = "/" + address.partition("://")[2]
    return sorted(path.removeprefix(f"{root}/") for path in system.find(root))


def run(address, files, *, again=False):
    """Writes a clip as a run would, and keeps it; returns what was known of it before."""
    with clip_folder(address, "a/b") as folder:
        known = sorted(path.name for path in folder.path.iterdir())
        if again:
            folder.begin_again()
        (folder.path / "masks").mkdir()
        for name, text in files.items():
            (folder.path / name).write_text(text)
        listed = "".join(json.dumps([name, 1, 1, ""]) + "\n" for name in files)
        (folder.path / ".mnemask-written").write_text(listed)
        (folder.path / ".mnemask-lock").write_text("{}")
        folder.keep()
    return known


def test_what_is_complete_is_kept_and_known_again(address):
    assert run(address, {"masks/0.png": "0", "report.json": "{}"}) == []
    assert names(address) == ["a/b/.mnemask-written", "a/b/masks/0.png", "a/b/report.json"]
    with clip_folder(address, "a/b") as folder:
        assert sorted(path.name for path in folder.path.iterdir()) == [".mnemask-written", "report.json"]


def test_what_is_not_complete_is_not_kept(address):
    with clip_folder(address, "a") as folder:
        (folder.path / "report.json").write_text("{}")
    assert names(address) == []


def test_doing_it_again_replaces_what_the_run_wrote_and_nothing_else(address):
    run(address, {"masks/0.png": "0", "masks/1.png": "1", "report.json": "{}"})
    fsspec.filesystem("memory").pipe(address + "/a/b/mine.txt", b"mine")
    before = names(address)
    with clip_folder(address, "a/b") as folder:
        folder.begin_again()
        assert list(folder.path.iterdir()) == []
    assert names(address) == before, "nothing is removed before there is something in its place"
    run(address, {"masks/0.png": "2", "report.json": "{}"}, again=True)
    assert names(address) == ["a/b/.mnemask-written", "a/b/masks/0.png", "a/b/mine.txt", "a/b/report.json"]


@pytest.mark.parametrize("name", ["masks/2.png", "table.csv", "overlay.mp4", "preview.png", "report.json"])
def test_files_of_others_at_an_address_are_refused_before_the_clip_and_never_replaced(address, name):
    system, mine = fsspec.filesystem("memory"), f"{address}/a/b/{name}"
    run(address, {"masks/0.png": "0"})
    system.pipe(mine, b"mine")
    with refusal(OutputError, name), clip_folder(address, "a/b"):
        raise AssertionError("it began")
    system.rm_file(mine)
    with clip_folder(address, "a/b") as folder:
        system.pipe(mine, b"mine")
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text("2")
        (folder.path / ".mnemask-written").write_text(json.dumps([name, 1, 1, ""]) + "\n")
        with refusal(OutputError, name):
            folder.keep()
    assert system.cat_file(mine) == b"mine"
    assert system.cat_file(f"{address}/a/b/masks/0.png") == b"0"


def test_what_a_clip_did_not_write_is_not_kept(address):
    fsspec.filesystem("memory").pipe(f"{address}/a/b/moments.json", b"mine")
    assert run(address, {"masks/0.png": "0", "report.json": "{}"}) == ["moments.json"]
    assert fsspec.filesystem("memory").cat_file(f"{address}/a/b/moments.json") == b"mine"


def test_what_is_left_where_a_replacement_was_cut_off_is_still_known_as_the_runs(address, monkeypatch):
    run(address, {"masks/0.png": "0", "masks/1.png": "1", "report.json": "{}"})
    system = fsspec.filesystem("memory")
    remove, removed = type(system).rm_file, []

    def fails(self, path):
        if removed:
            raise OSError("gone")
        removed.append(path)
        remove(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "rm_file", fails)
        with refusal(OutputError, "gone"):
            run(address, {"masks/0.png": "2", "report.json": "{}"}, again=True)
    assert names(address) == ["a/b/.mnemask-written", "a/b/masks/0.png", "a/b/masks/1.png"]
    run(address, {"masks/0.png": "2", "report.json": "{}"}, again=True)
    assert names(address) == ["a/b/.mnemask-written", "a/b/masks/0.png", "a/b/report.json"]


def test_a_folder_is_used_as_it_is(tmp_path):
    with clip_folder(str(tmp_path), "a/b") as folder:
        folder.keep()
    assert folder.path == tmp_path / "a/b"


def test_videos_of_a_storage_are_fetched_and_those_of_the_web_are_not(address, tmp_path):
    assert [is_fetched(each) for each in ("s3://a/b.mp4", "memory://b", "https://a/b.mp4", "a/b.mp4")] == [True] * 2 + [
        False
    ] * 2
    fsspec.filesystem("memory").pipe(f"{address}/frames/0.png", b"0")
    copy = fetched(f"{address}/frames", tmp_path)
    assert [path.name for path in (tmp_path / "frames").iterdir()] == ["0.png"]
    assert copy == str(tmp_path / "frames")
    with refusal(InputError, "lost.mp4"):
        fetched(f"{address}/lost.mp4", tmp_path)


def test_a_folder_is_no_file(address, tmp_path):
    fsspec.filesystem("memory").pipe(f"{address}/frames/0.png", b"0")
    with refusal(InputError, "is a folder"):
        fetched(f"{address}/frames", tmp_path, only_file=True)


def test_whatever_a_storage_raises_is_said_without_its_password():
    class LostError(Exception):
        """As of a package that has classes of its own."""

    with (
        refusal(OutputError, "'s3://host/a'", "gone") as caught,
        reached("s3://me:word@host/a", OutputError, "used", "…"),
    ):
        raise LostError("gone")
    assert "word" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt), reached("s3://a", OutputError, "used", "…"):
        raise KeyboardInterrupt


def test_an_address_of_no_file_system_is_refused(tmp_path):
    with refusal(InputError, "nosuch"):
        fetched("nosuch://a/b.mp4", tmp_path)


def test_reports_are_written_to_folders_and_addresses(address, tmp_path):
    for out in (address, str(tmp_path)):
        for text in ('{"manifest": 1}', '{"manifest": 2}'):
            with batch_folder(out, ["report.json"]) as write:
                write({"report.json": text})
    assert names(address) == ["report.json"]
    assert (tmp_path / "report.json").read_text() == '{"manifest": 2}'


def test_a_file_of_others_is_refused_before_the_batch_begins(address, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    fsspec.filesystem("memory").pipe(f"{address}/report.json", b"{}")
    for out in (address, str(tmp_path)):
        with refusal(OutputError), batch_folder(out, ["report.html", "report.json"]):
            raise AssertionError("it began")
    fsspec.filesystem("memory").mv(f"{address}/report.json", f"{address}/report.html")
    with refusal(OutputError, "report.html"), batch_folder(address, ["report.html", "report.json"]):
        raise AssertionError("it began")
    (tmp_path / "one/masks").mkdir(parents=True)
    with refusal(OutputError, "one video"), batch_folder(str(tmp_path / "one"), ["report.html"]):
        raise AssertionError("it began")


def test_two_batches_do_not_share_a_folder(tmp_path):
    with batch_folder(str(tmp_path), []), ThreadPoolExecutor(1) as pool:
        second = pool.submit(batch_folder(str(tmp_path), []).__enter__)
        with refusal(FolderInUseError):
            second.result()
