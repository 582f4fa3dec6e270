import json
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from studio_server import NUM_FRAMES, SIZE, drawn, running, write_clip
from websockets.sync.client import connect

import mnemask as mm
from mnemask.export import EXPORT_FORMATS, export_masks
from mnemask.io import MASK_FORMATS
from mnemask.io.edges import Cutout, Edges
from mnemask.project import export_project
from mnemask.studio.exports import files_of


@pytest.fixture(scope="module")
def masks():
    return drawn()[1]


@pytest.fixture
def one_thread():
    """Within it, this process computes as the studio does, to the last bit: with other threads, a pixel may differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def as_runs(mask):
    """A mask as the page sends it."""
    flat = np.concatenate([[False], mask.numpy().ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    lengths = np.diff([0, *edges, mask.numel()]).tolist()
    return struct.pack(f"<{2 + len(lengths)}I", SIZE[1], SIZE[0], *lengths)


def from_runs(data):
    """Labels as the page reads them."""
    values = np.frombuffer(data, "<u4")
    return torch.from_numpy(np.repeat(values[2::2].astype(np.int32), values[3::2]).reshape(SIZE))


class Page:
    """What the page does, without a browser."""

    def __init__(self, studio, name):
        self.client, self.base = studio.client(), f"/api/projects/{name}"
        cookie = {"cookie": f"mnemask-studio-{studio.port}={studio.token}"}
        address = f"ws://127.0.0.1:{studio.port}{self.base}/events"
        self._stack = ExitStack()
        self._stack.enter_context(self.client)
        connection = connect(address, origin=studio.base, additional_headers=cookie, max_size=2**24)
        self.socket = self._stack.enter_context(connection)

    def act(self, **action):
        return self.post("/actions", json=action).json()

    def post(self, path, **more):
        answer = self.client.post(self.base + path, **more)
        assert answer.status_code == 200, answer.text
        return answer

    def labels(self, index):
        return from_runs(self.client.get(f"{self.base}/labels/{index}").content)

    def all_labels(self):
        return torch.stack([self.labels(index) for index in range(NUM_FRAMES)])

    def paint(self, frame, number, mask):
        self.post(f"/masks?frame={frame}&object={number}&tool=brush", content=as_runs(mask))

    def wait(self, kind="track"):
        """Returns the last event of the job, and how many frames were told of."""
        frames = 0
        while True:
            event = json.loads(self.socket.recv(timeout=180))
            if event["type"] == "job" and event["kind"] == kind:
                frames += event.get("frame") is not None
                if not event["running"]:
                    return event, frames

    def track(self, start, direction="forward", to=None):
        self.post("/track", json={"start": start, "direction": direction, "to": to})
        return self.wait()[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


def test_a_session_over_the_wire_gives_the_masks_of_the_same_session_in_python(tmp_path, masks, one_thread):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio:
        with Page(studio, studio.project) as page:
            assert page.act(do="add_object", name="cat")["objects"][0]["name"] == "cat"
            page.paint(6, 1, masks[6, 0])
            assert torch.equal(page.labels(6) == 1, masks[6, 0])
            done = page.track(6, "both")
            assert (done["running"], done["complete"]) == (False, True)
            page.paint(14, 1, masks[14, 0])
            assert page.act(do="undo")["keys"][-1]["frame"] == 6
            assert page.act(do="redo")["keys"][-1]["frame"] == 14
            page.track(14)
            page.act(do="accept", first=0, last=5)
            timeline = page.client.get(f"{page.base}/timeline?bins=12").json()
            assert timeline["known"] == [1] * 12
            assert len(timeline["objects"]["1"]["doubt"]) == 12
            seen = page.all_labels()
            page.post("/export", json={"format": "png"})
            exported, _ = page.wait("export")
            assert "error" not in exported
            for path in ("/memory?frame=9", "/memory?frame=9&x=30&y=40"):
                assert page.client.get(page.base + path).headers["content-type"] == "image/png"
        assert studio.end() == 0
    with mm.Project.create(tmp_path / "python", clip, size=min(SIZE)) as project:
        cat = project.add_object("cat")
        project.set_key(6, cat, masks[6, 0])
        project.track(6)
        project.track(6, "backward", to="key")
        project.set_key(14, cat, masks[14, 0])
        project.track(14)
        assert torch.equal(seen, torch.stack([project.labels(index) for index in range(NUM_FRAMES)]))
        export_project(project, tmp_path / "out")
    files = sorted((tmp_path / "out/masks").iterdir())
    assert len(files) == NUM_FRAMES
    for file in files:
        from_page = tmp_path / "projects" / studio.project / "exports/png/masks" / file.name
        assert from_page.read_bytes() == file.read_bytes()


def test_every_format_is_offered_and_gives_the_files_that_python_writes(tmp_path, masks):
    clip, at_once = (
        write_clip(tmp_path / "clip"),
        {"pictures": True, "tolerance": 1, "feather": 2.5, "grow": 1, "only": 1, "fps": 24},
    )
    with running(clip, projects=tmp_path / "projects") as studio, Page(studio, studio.project) as page:
        for row in (0, 1):
            page.act(do="add_object")
            page.paint(0, row + 1, masks[0, row])
        page.act(do="update_object", object_id=1, name="Bobby", category="camel")
        page.track(0, to=3)
        exports = tmp_path / "projects" / studio.project / "exports"
        formats = page.client.get("/api/workspace").json()["formats"]
        assert {each["name"] for each in formats} == EXPORT_FORMATS.keys() | MASK_FORMATS.keys()
        for each in formats:
            page.post("/export", json={"format": each["name"], "options": at_once})
            done = page.wait("export")[0]
            assert "error" not in done, each
            for file in done["files"]:
                assert page.client.get(f"{page.base}/exports/{file}").content == (exports / file).read_bytes()
        page.post("/export", json={"format": "png"})
        assert page.wait("export")[0]["export"] == "png-2"
        for wrong in (
            {"format": "tiff"},
            {"options": {"feather": "x"}},
            {"options": {"tolerance": -1}},
            {"options": {"fps": 0.001}},
            {"options": {"background": "#00ff00ff"}},
            {"options": 1},
        ):
            assert page.client.post(f"{page.base}/export", json={"format": "green", **wrong}).status_code == 400
        page.post("/export", json={"format": "green", "options": {"only": 9}})
        assert "error" in page.wait("export")[0]
        assert studio.end() == 0
    assert {path.name for path in exports.iterdir()} == {each["name"] for each in formats} | {"png-2"}
    cutout = Cutout((1,), edges=Edges(grow=1, feather=2.5))
    with mm.Project(tmp_path / "projects" / studio.project) as project:
        for each in formats:
            out, name = tmp_path / "python" / each["name"], each["name"]
            if name in EXPORT_FORMATS:
                export_masks(project, name, out, video=clip, tolerance=1.0)
            else:
                export_project(project, out, mask_format=name, cutout=cutout, frames_per_second=24)
            files = [path.relative_to(out) for path in files_of(out)]
            assert files == [path.relative_to(exports / name) for path in files_of(exports / name)]
            assert [(out / file).read_bytes() for file in files] == [
                (exports / name / file).read_bytes() for file in files
            ], name


def test_a_click_gives_a_mask_around_it_and_a_further_one_takes_away(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, Page(studio, studio.project) as page:
        page.act(do="add_object")
        y, x = (int(values.float().mean()) for values in torch.nonzero(masks[0, 0], as_tuple=True))
        asked = {"frame": 0, "object": 1, "points": [[x, y, 1]], "box": None}
        found = from_runs(page.post("/clicks", json=asked).content) == 1
        assert bool(found[y, x])
        beside = torch.nonzero(found & ~masks[0, 0])
        if len(beside):
            y, x = beside[len(beside) // 2].tolist()
            asked["points"].append([x, y, 0])
            assert int((from_runs(page.post("/clicks", json=asked).content) == 1).sum()) < int(found.sum())
        far = [[999, 0, 1]]
        for wrong in ({"points": far}, {"points": "x"}, {"points": [], "box": [1]}, {"frame": 999}, {"object": 7}):
            assert page.client.post(f"{page.base}/clicks", json={**asked, **wrong}).status_code == 400


def test_a_pause_keeps_what_was_tracked_and_a_kill_loses_nothing(tmp_path, masks, one_thread):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio:
        with Page(studio, studio.project) as page:
            page.act(do="add_object")
            page.paint(0, 1, masks[0, 0])
            page.post("/track", json={"start": 0})
            while not (event := json.loads(page.socket.recv(timeout=120))).get("frame"):
                pass
            page.post("/stop")
            paused, _ = page.wait()
            assert paused["reached"] >= event["frame"]
            state = page.client.get(page.base).json()
            assert state["coverage"]["1"]["tracked"] == paused["reached"] + 1
            before = page.all_labels()
            page.act(do="accept", first=0, last=NUM_FRAMES - 1)
            assert page.client.get(page.base).json()["accepted"] == [[0, paused["reached"]]], "what nobody saw is not"
            page.act(do="unaccept", first=0, last=NUM_FRAMES - 1)
            run = {"do": "accept", "first": paused["reached"] + 1, "last": NUM_FRAMES - 1}
            assert page.client.post(f"{page.base}/actions", json=run).status_code == 400
            page.post("/track", json={"start": paused["reached"]})
            time.sleep(0.3)
        studio.kill()
    with running(clip, projects=tmp_path / "projects") as studio, Page(studio, studio.project) as page:
        again = page.client.get(page.base).json()
        tracked = again["coverage"]["1"]["tracked"]
        assert tracked >= state["coverage"]["1"]["tracked"]
        assert (again["objects"], again["keys"]) == (state["objects"], state["keys"])
        reached = paused["reached"] + 1
        assert torch.equal(page.all_labels()[:reached], before[:reached])
        page.track(tracked - 1)
        whole = page.all_labels()
    with mm.Project.create(tmp_path / "python", clip, size=min(SIZE)) as project:
        project.add_object()
        project.set_key(0, 1, masks[0, 0])
        project.track(0)
        assert torch.equal(whole, torch.stack([project.labels(index) for index in range(NUM_FRAMES)]))


def test_three_projects_at_once_get_the_masks_that_each_gets_alone(tmp_path, masks):
    clips = [write_clip(tmp_path / f"clip{number}") for number in range(3)]
    results, failed = {}, []

    def use(studio, name):
        try:
            with Page(studio, name) as page:
                page.act(do="add_object")
                page.paint(0, 1, masks[0, 0])
                page.post("/track", json={"start": 0})
                for index in range(0, NUM_FRAMES, 5):  # scrubbing meanwhile
                    assert page.client.get(f"{page.base}/frames/{index}?h=96").status_code == 200
                assert page.wait()[0]["complete"]
                results[name] = page.all_labels()
        except BaseException as error:
            failed.append(error)
            raise

    with running(*clips, projects=tmp_path / "projects") as studio:
        threads = [threading.Thread(target=use, args=(studio, clip.name)) for clip in clips]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    one, other, third = results.values()
    assert bool((one > 0).any(2).any(1).all())
    assert torch.equal(one, other)
    assert torch.equal(one, third)


def test_what_the_page_never_asks_for_is_refused_with_a_sentence(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, Page(studio, studio.project) as page:
        asked = [("GET", f"/labels/{NUM_FRAMES}", {}), ("GET", "/frames/0?h=--3", {}), ("GET", "/timeline?bins=²", {})]
        asked += [("POST", "/actions", {"json": {"do": kind}}) for kind in ([], {}, None, "fly")]
        for method, path, more in asked:
            answer = page.client.request(method, page.base + path, **more)
            assert answer.status_code == 400, path
            assert "; " in answer.json()["error"]


def test_a_project_that_is_open_elsewhere_is_not_opened_twice(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio:
        with pytest.raises(mm.InputError):
            mm.Project(tmp_path / "projects" / studio.project)
        line = [sys.executable, "-m", "mnemask", "studio", str(clip), "--project", str(tmp_path / "projects")]
        second = subprocess.run([*line, "--no-browser"], capture_output=True, text=True, check=False, timeout=120)
        assert (second.returncode, "in use" in second.stderr) == (2, True)


def test_a_signal_to_end_closes_everything_as_ctrl_c_does(tmp_path):
    with running(write_clip(tmp_path / "clip"), projects=tmp_path / "projects") as studio:
        with Page(studio, studio.project) as page:
            page.act(do="add_object")
        assert (tmp_path / "projects/clip/.mnemask-lock").exists()
        assert studio.end(signal.SIGTERM) == 0
        assert not (tmp_path / "projects/clip/.mnemask-lock").exists()


def test_no_browser_keeps_frames_that_may_be_of_another_video_later(tmp_path):
    with running(write_clip(tmp_path / "clip"), projects=tmp_path / "projects") as studio, studio.client() as client:
        assert client.get("/api/projects/clip/frames/0").headers["cache-control"] == "no-store"
