"""`mnemask batch` as its user runs it: real clips, real worker processes."""

import html
import json
import re
import sys

import cv2
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image
from typer.testing import CliRunner

import mnemask as mm
from mnemask.cli import app, batch_worker
from mnemask.cli.batch import EXAMPLE, EXAMPLE_JSONL
from mnemask.manifest.run import Control
from mnemask.manifest.schedule import Clip
from mnemask.model.checkpoints import save_model


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("files")
    frames, masks = drawn_clip(6, 32, 48)
    for name in ("one", "two"):
        (folder / name).mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(folder / name / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    Image.fromarray(masks[0, 0].byte().numpy()).save(folder / "first.png")
    (folder / "broken.mp4").write_bytes(b"no video")
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    lines = ["video,mask,model", *(f"{name},first.png,tiny.safetensors" for name in ("one", "broken.mp4", "two"))]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


def options(files, name, **more):
    return {
        "video": str(files / name),
        "mask": str(files / "first.png"),
        "model": str(files / "tiny.safetensors"),
        "size": "32",
        **more,
    }


class Quiet:
    """A control that is never stopped."""

    def __init__(self, stop_after=None):
        self.asked, self._after = 0, stop_after

    def advance(self, frames, total):
        self.total = total

    def stop(self):
        self.asked += 1
        return "SIGINT" if self._after is not None and self.asked > self._after else None


def test_clips_of_a_manifest_are_done_and_one_that_fails_is_told(files, tmp_path):
    out = tmp_path / "out"
    line = ("batch", files / "clips.csv", "-o", out, "--size", 32, "--workers", 1, "--json")
    done = CliRunner().invoke(app, [str(argument) for argument in line])
    assert done.exit_code == 1, done.output
    said = [json.loads(each) for each in done.stdout.splitlines()]
    assert {each["name"]: each["state"] for each in said if each["type"] == "clip"} == {
        "one": "done",
        "broken": "failed",
        "two": "done",
    }
    assert (said[-1]["type"], said[-1]["frames"]) == ("result", 12)
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {"done": 2, "complete": 0, "failed": 1, "stopped": 0}
    assert [clip["line"] for clip in report["clips"]] == [2, 3, 4]
    failed = report["clips"][1]
    assert failed["problem"]
    assert failed["remedy"]
    for name in ("one", "two"):
        assert len(list((out / name / "masks").iterdir())) == 6
        assert json.loads((out / name / "report.json").read_text())["settings"]["short_side"] == 32
    page = (out / "report.html").read_text()
    assert "http" not in page.partition("<body>")[2]
    assert failed["problem"] in html.unescape(page)


def test_a_worker_resumes_a_clip_refuses_other_settings_and_redoes_it_if_asked(files, tmp_path):
    where = {"out": str(tmp_path), "threads": torch.get_num_threads()}
    work = batch_worker.open_worker({**where, "redo": False})
    clip = Clip("one", 1, options(files, "one"))
    control = Quiet(stop_after=2)
    assert isinstance(control, Control)
    assert work(clip, control).state == "stopped"
    assert not json.loads((tmp_path / "one/report.json").read_text())["complete"]
    done = work(clip, Quiet())
    assert (done.state, done.facts["frames"], done.facts["resumed_at"]) == ("done", 6, [2])
    again = work(clip, Quiet())
    assert (again.state, again.facts["moments"]) == ("complete", done.facts["moments"])
    changed = Clip("one", 1, options(files, "one", policy="lfu"))
    with pytest.raises(mm.MnemaskError) as caught:
        work(changed, Quiet())
    assert "lfu" in caught.value.problem
    again = batch_worker.open_worker({**where, "redo": True})(changed, Quiet())
    assert again.state == "done"
    assert "lfu" in again.facts["warnings"][0]
    assert len(list((tmp_path / "one/masks").iterdir())) == 6


def test_masks_without_a_checkpoint_or_report_are_replaced_only_if_asked(files, tmp_path):
    where = {"out": str(tmp_path), "threads": torch.get_num_threads()}
    clip = Clip("one", 1, options(files, "one"))
    assert batch_worker.open_worker({**where, "redo": False})(clip, Quiet()).state == "done"
    (tmp_path / "one/report.json").unlink()
    with pytest.raises(mm.MnemaskError) as caught:
        batch_worker.open_worker({**where, "redo": False})(clip, Quiet())
    assert "--redo" in caught.value.remedy
    assert len(list((tmp_path / "one/masks").iterdir())) == 6
    assert batch_worker.open_worker({**where, "redo": True})(clip, Quiet()).state == "done"


def test_weights_are_loaded_once_for_all_clips(files, tmp_path, monkeypatch):
    loads = []
    load = mm.load_model
    monkeypatch.setattr(mm, "load_model", lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs))
    work = batch_worker.open_worker({"out": str(tmp_path), "threads": torch.get_num_threads(), "redo": False})
    for name in ("one", "two"):
        outcome = work(Clip(name, 1, options(files, name)), Quiet())
        assert outcome.state == "done"
        assert all(moment["picture"] for moment in outcome.facts["moments"])
    assert len(loads) == 1


def test_results_go_to_an_address_and_are_found_there(files, tmp_path):
    work = batch_worker.open_worker(
        {"out": f"file://{tmp_path}/there", "threads": torch.get_num_threads(), "redo": False}
    )
    clip = Clip("one", 1, options(files, "one", mask=f"file://{files}/first.png"))
    assert work(clip, Quiet()).state == "done"
    found = tmp_path / "there/one"
    assert {path.name for path in found.glob("[!.]*")} >= {"masks", "report.json", "moments.json"}
    assert len(list((found / "masks").iterdir())) == 6
    again = work(clip, Quiet())
    assert (again.state, again.facts["frames"]) == ("complete", 6)


def test_a_manifest_that_is_wrong_is_refused_before_anything_is_made(files, tmp_path):
    wrong = files / "wrong.csv"
    wrong.write_text("video,mask,size,click\none,first.png,abc,\ntwo,first.png,,1=x\none,,,\ntwo,first.png,32,\n")
    code, said = mnemask("batch", wrong, "-o", tmp_path / "out")
    assert code == 2
    for line, fact in ((2, "abc"), (3, "1=x"), (4, "nothing to track")):
        assert re.search(rf"line {line}: [^\n]*{fact}", said), said
    assert not (tmp_path / "out").exists()
    Image.new("L", (47, 32), 1).save(files / "narrow.png")
    wrong.write_text('video,mask,click,at\none,narrow.png,,\none,,"1=900,4",\ntwo,first.png,,9=first.png\n')
    code, said = mnemask("batch", wrong, "--check")
    assert code == 2
    for line, fact in ((2, "47x32"), (3, "900"), (4, "frame 9")):
        assert re.search(rf"line {line}: [^\n]*{fact}", said), said
    code, said = mnemask("batch", files / "clips.csv", "-o", tmp_path / "out", "--check")
    assert code == 0
    assert not (tmp_path / "out").exists()


def test_a_format_that_is_not_installed_is_refused_before_the_first_clip(files, monkeypatch):
    manifest = files / "formats.csv"
    manifest.write_text("video,mask,format\none,first.png,rle\ntwo,first.png,png\n")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    code, said = mnemask("batch", manifest, "--check")
    assert code == 2
    assert re.search(r"line 2: [^\n]*pycocotools", said), said


def test_the_example_names_columns_that_there_are():
    code, _ = mnemask("batch", "--example")
    assert code == 0
    known = {"name", "objects", "clicks", *(column.name for column in batch_worker.columns())}
    assert set(EXAMPLE.split("\n")[0].split(",")) <= known | {"object"}
    for line in EXAMPLE_JSONL.splitlines():
        assert {name for name in json.loads(line) if name[0] != "_"} <= known | {"objects"}


def test_what_is_no_column_is_an_option_of_the_command_alone():
    names = {column.name for column in batch_worker.columns()}
    assert {"mask", "box", "click", "not", "at", "size", "policy", "overlay", "format", "model"} <= names
    assert not names & {"out", "resume", "overwrite", "live", "follow", "trace", "help"}


def test_a_clip_that_is_kept_at_an_address_is_complete_without_masks_here(files):
    fsspec = pytest.importorskip("fsspec")
    work = batch_worker.open_worker({"out": "memory://elsewhere", "redo": False, "threads": torch.get_num_threads()})
    clip = Clip("one", 1, options(files, "one"))
    try:
        outcomes = [work(clip, Quiet()) for _ in range(2)]
    finally:
        fsspec.filesystem("memory").rm("/elsewhere", recursive=True)
    assert [outcome.state for outcome in outcomes] == ["done", "complete"]
    assert outcomes[1].facts["warnings"] == []


@pytest.mark.parametrize(("option", "value"), [("size", "360p"), ("size", "360.5"), ("tta", "twice")])
def test_settings_of_a_clip_on_remote_storage_are_checked_before_any_clip(tmp_path, option, value):
    (tmp_path / "clips.csv").write_text(f'video,click,{option}\nmemory://bucket/a.mp4,"1=3,3",{value}\n')
    code, said = mnemask("batch", tmp_path / "clips.csv", "-o", tmp_path / "out")
    assert code == 2
    assert "line 2" in said
    assert value in said
    assert not (tmp_path / "out").exists()
