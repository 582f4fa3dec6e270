"""The studio's desk, workspace and events without a server."""

import asyncio
import copy
import json
import logging
import os
import re
import shutil
import signal
import socket
import threading
from fractions import Fraction

import cv2
import httpx
import numpy as np
import pytest
import torch
from drawn_clip import write_video
from refusals import refusal
from studio_server import NUM_FRAMES, SIZE, drawn, write_clip

import mnemask as mm
from mnemask.errors import InputError, OutputError
from mnemask.io import sources
from mnemask.project import about
from mnemask.studio import api as apis
from mnemask.studio import desk as desks
from mnemask.studio import server
from mnemask.studio.api import Api
from mnemask.studio.clicks import ColourClicks
from mnemask.studio.exports import exports_in, files_of, main_files
from mnemask.studio.jobs import Listeners
from mnemask.studio.workspace import Workspace


@pytest.fixture
def desk(tmp_path):
    """A desk of a project with one object, marked in frame 0."""
    with mm.Project.create(tmp_path / "project", write_clip(tmp_path / "clip"), size=min(SIZE)) as project:
        project.set_key(0, project.add_object(), drawn()[1][0, 0])
        desk = desks.Desk("project", project)
        yield desk
        desk.stop()


def test_an_export_has_no_name_until_it_is_whole_no_other_ends_it_and_what_it_warned_of_is_told(desk, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def write(project, out, on_frame):
        (out / "masks").mkdir(parents=True)
        (out / "masks/masks.mkv").write_bytes(b"123")
        begun.set()
        may_end.wait(60)
        for _ in range(2):
            logging.getLogger("mnemask.io.sound").warning("the sound of %s is lost", "clip.mp4")

    monkeypatch.setattr(desks, "writing", lambda name, options: write)
    desk.export("ffv1", {})
    assert begun.wait(60)
    logging.getLogger("mnemask").warning("of another thread")
    assert exports_in(desk.exports) == []
    with refusal(InputError, "export is already running"):
        desk.export("ffv1", {})
    may_end.set()
    desk._job._thread.join(60)
    told = desk.state()["job"]
    assert (told["export"], told["files"], told["bytes"]) == ("ffv1", ["ffv1/masks/masks.mkv"], 3)
    assert told["warnings"] == ["the sound of clip.mp4 is lost"]
    assert desk.state()["exports"] == ["ffv1"]


def test_an_export_that_a_killed_process_left_is_gone_when_its_project_is_opened_again(tmp_path):
    clip = write_clip(tmp_path / "clip")
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    name = workspace.open_source(str(clip))
    left = tmp_path / "projects" / name / "exports/.unfinished"
    left.mkdir(parents=True)
    workspace.close()
    Workspace(tmp_path / "projects", [tmp_path]).project(name).close()
    assert not left.exists()


def coverage(desk, object_id):
    """In how many frames an object is tracked; neither tracked nor marked; the same before its first mark."""
    return tuple(desk.state()["coverage"][object_id].values())


def test_an_object_is_tracked_where_a_pass_looked_for_it_whatever_else_was_tracked_there(desk, tiny_model):
    project, masks = desk.project, drawn()[1]
    project._model = tiny_model
    assert coverage(desk, 1) == (0, NUM_FRAMES - 1, 0), "a mark is not counted as missing"
    desk.track(0, "forward", 9, None)
    ended(desk)
    assert coverage(desk, 1) == (10, NUM_FRAMES - 10, 0)
    project.set_key(4, project.add_object(), masks[4, 1])
    assert coverage(desk, 2) == (0, NUM_FRAMES - 5, 4)
    assert [desk.facts(index)["known"] for index in (3, 4, 9, 10)] == [[1], [1], [1], []]
    desk.act({"do": "remove_object", "object_id": 1})
    assert [desk.facts(index)["known"] for index in (3, 9)] == [[], []]
    with refusal(InputError, "left to accept"):
        desk.act({"do": "accept", "first": 5, "last": 9})
    desk.paint(6, 2, torch.zeros(SIZE, dtype=torch.bool), "absent")
    desk.track(4, "forward", 8, None)
    ended(desk)
    assert coverage(desk, 2) == (5, NUM_FRAMES - 9, 4)
    assert desk.facts(8)["known"] == [2], "it was looked for, though it is not there"
    desk.act({"do": "remove_object", "object_id": 2})
    assert desk.state()["coverage"] == {}


def tracked_both_ways(desk, start):
    """What the page is told once a pass both ways has ended."""
    desk.track(start, "both", None, None)
    desk._job._thread.join(120)
    return desk.state()["job"]


def test_both_ways_is_one_way_where_the_other_has_no_frame_left_and_tells_of_whatever_else_goes_wrong(
    desk, monkeypatch
):
    project, masks = desk.project, drawn()[1]
    project.set_key(3, 1, masks[3, 0])
    project.accept(3, NUM_FRAMES - 1)
    assert "error" not in tracked_both_ways(desk, 3)
    assert np.flatnonzero(project.known()).tolist() == [1, 2]
    project.unaccept(3, 4)
    write = project._results.write

    def full(index, *more):
        if index < 3:
            raise OutputError("the disk is full", "make room")
        write(index, *more)

    monkeypatch.setattr(project._results, "write", full)
    assert "the disk is full" in tracked_both_ways(desk, 3)["error"]
    assert np.flatnonzero(project.known()).tolist() == [1, 2, 3, 4]
    project.accept(0, 4)
    assert "accepted" in tracked_both_ways(desk, 3)["error"]


def test_where_all_clicks_are_taken_back_a_mark_is_what_it_was_before_them(desk):
    project, square = desk.project, torch.zeros(SIZE, dtype=torch.bool)
    square[20:80, 20:60] = True
    desk.paint(0, 1, square, "polygon")
    desk.click(0, 1, [[100.0, 50.0, 1.0]], None)
    desk.click(0, 1, [[100.0, 50.0, 1.0], [120.0, 50.0, 1.0]], None)
    desk.click(0, 1, [], None)
    assert torch.equal(project.labels(0) == 1, square)
    assert project.state.keys[0, 1].how["tool"] == "polygon"
    desk.click(1, 1, [[40.0, 40.0, 1.0]], None)
    desk.click(1, 1, [], None)
    assert project.state.key_frames() == [0]
    with refusal(InputError, "first click"):
        desk.click(1, 1, [], None)


def test_a_stroke_changes_the_mask_as_it_is_and_one_that_changes_no_pixel_marks_nothing(desk):
    project, left, middle = desk.project, *torch.zeros(2, *SIZE, dtype=torch.bool)
    left[20:80, 20:60] = True
    middle[20:80, 40:100] = True
    desk.paint(1, 1, left, "brush", "add")
    desk.paint(1, 1, middle, "brush", "add")
    assert torch.equal(project.labels(1) == 1, left | middle)
    desk.paint(1, 1, left, "eraser", "remove")
    assert torch.equal(project.labels(1) == 1, middle & ~left)
    before = project.can(), len(project.state.keys)
    desk.paint(1, 1, left, "eraser", "remove")
    desk.paint(1, 1, middle & ~left, "brush", "add")
    desk.paint(2, 1, left, "eraser", "remove")
    desk.paint(2, 1, torch.zeros_like(left), "polygon", "add")
    assert (project.can(), len(project.state.keys)) == before
    assert project.state.keys[1, 1].how == {"tool": "eraser"}
    with refusal(InputError, "set, add or remove"):
        desk.paint(1, 1, left, "brush", "more")


def test_a_removed_objects_mask_does_not_come_back_as_another_objects(desk):
    project, square = desk.project, torch.zeros(SIZE, dtype=torch.bool)
    square[20:80, 20:60] = True
    desk.paint(0, 1, square, "polygon")
    project.remove_object(1)
    again = project.add_object()
    assert again == 1
    desk.click(0, again, [[100.0, 50.0, 1.0]], None)
    desk.click(0, again, [], None)
    assert not (project.labels(0) == again).any()


def test_a_page_that_does_not_listen_misses_the_oldest_events_and_not_the_last():
    async def heard():
        listeners = Listeners()
        queue = listeners.join()
        for number in range(300):
            listeners.tell({"number": number})
        await asyncio.sleep(0)
        return [queue.get_nowait()["number"] for _ in range(queue.qsize())]

    numbers = asyncio.run(heard())
    assert numbers == list(range(300 - len(numbers), 300))


def test_of_two_changes_at_once_the_newer_state_is_told_last(desk, monkeypatch):
    told, first_tells, second_told = [], threading.Event(), threading.Event()

    def tell(event):
        if not first_tells.is_set():
            first_tells.set()
            second_told.wait(0.5)  # the other change may overtake this one now, if anything lets it
        else:
            second_told.set()
        told.append(event)

    monkeypatch.setattr(desk.listeners, "tell", tell)
    first = threading.Thread(target=desk.act, args=[{"do": "add_object"}])
    first.start()
    assert first_tells.wait(60)
    desk.act({"do": "add_object"})
    first.join(60)
    assert [len(state["objects"]) for state in told] == [2, 3]
    assert told[0]["version"] < told[1]["version"] < desk.state()["version"]


def test_nothing_is_exported_into_the_place_of_a_folder_that_was_moved_away(tmp_path, desk):
    folder = desk.project.folder
    folder.rename(tmp_path / "moved")
    with refusal(OutputError, "project", "put it back"):
        desk.export("png", {})
    assert not folder.exists()


def test_no_mask_goes_with_pictures_of_a_video_that_took_the_place_of_the_projects(tmp_path, tiny_model):
    frames, masks = drawn()
    clip = write_video(tmp_path / "clip.mp4", frames)
    with mm.Project.create(tmp_path / "project", clip, tiny_model, size=min(SIZE)) as project:
        project.set_key(0, project.add_object(), masks[0, 0])
        desk = desks.Desk("project", project)
        write_video(tmp_path / "other.mp4", frames[::-1]).replace(clip)
        for way, options in (("green", {}), ("coco", {"pictures": True})):
            desk.export(way, options)
            assert "is not the video that the project was made with" in ended(desk)["error"]
            assert not desk.exports.exists() or not list(desk.exports.iterdir())
        with refusal(InputError, "is not the video", "restore that one"):
            desk.track(0, "forward", None, None)
        clip.unlink()
        with refusal(InputError, "no longer there", "put it back"):
            desk.track(0, "forward", None, None)
        desk.export("coco", {})  # without the video
        assert ended(desk)["export"] == "coco"


def test_the_names_of_a_folder_are_read_again_only_after_a_change(tmp_path, tiny_model, monkeypatch):
    folder, read = write_clip(tmp_path / "clip[1]"), []
    with mm.Project.create(tmp_path / "project", folder, tiny_model, size=min(SIZE)) as project:
        monkeypatch.setattr(about, "digest_of_video", lambda path: read.append(path) or sources.digest_of_video(path))
        project.check_video()
        assert not read
        os.utime(folder / "00000.png", (1, 1))
        project.check_video()
        project.check_video()
        assert len(read) == 1
        folder.rename(tmp_path / "away")
        with refusal(InputError, "no longer there", "put it back"):
            project.check_video()
        (tmp_path / "away").rename(folder)
        project.check_video()
        monkeypatch.setattr(about, "digest_of_video", lambda path: (path / "of/nothing").stat())
        os.utime(folder / "00000.png", (2, 2))
        with refusal(InputError, "no longer there", "put it back"):
            project.check_video()


@pytest.mark.parametrize(
    ("files", "main"),
    [
        (["masks/green.mp4"], ["masks/green.mp4"]),
        (["config.xml", "images/0.jpg", "tasks.json"], ["config.xml", "tasks.json"]),
        (["masks.zarr/labels/c/0/0/0", "masks.zarr/zarr.json"], []),
        ([f"{index}.json" for index in range(24)], []),
    ],
)
def test_of_an_export_the_files_are_offered_that_one_would_open(tmp_path, files, main):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert main_files(tmp_path, list(files_of(tmp_path))) == [tmp_path / file for file in main]


@pytest.mark.parametrize("content", ["", "[]", '{"source": 1, "num_frames": 1, "size": [1, 1]}'])
def test_a_damaged_project_keeps_no_other_video_from_being_opened(tmp_path, content, caplog):
    clip = write_clip(tmp_path / "clip")
    (tmp_path / "projects/damaged").mkdir(parents=True)
    (tmp_path / "projects/damaged/project.json").write_text(content)
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    assert workspace.open_source(str(clip)) == "clip"
    assert "damaged" in caplog.text
    workspace.close()


def test_a_video_that_was_renamed_is_opened_with_its_project_and_another_one_is_not(tmp_path):
    clip, other = write_clip(tmp_path / "clip"), write_clip(tmp_path / "other")
    (other / "00000.png").write_bytes((other / "00001.png").read_bytes() + b"0")
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    name = workspace.open_source(str(clip))
    workspace.project(name).add_object("cat")
    workspace.close()
    clip.rename(tmp_path / "moved")
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    assert workspace.open_source(str(other)) == "other"
    assert workspace.open_source(str(tmp_path / "moved")) == name
    project = workspace.project(name)
    assert (project.source, [each.name for each in project.state.objects.values()]) == (tmp_path / "moved", ["cat"])
    assert "clip" in workspace.notes[name]
    workspace.close()
    assert json.loads((tmp_path / "projects" / name / "project.json").read_text())["source"] == str(tmp_path / "moved")


@pytest.mark.parametrize("running", [False, True])
def test_a_video_that_is_moved_while_its_project_is_open_is_continued_at_its_new_place(tmp_path, running, tiny_model):
    clip = write_clip(tmp_path / "clip")
    workspace = Workspace(tmp_path / "projects", [tmp_path], tiny_model, {"size": min(SIZE)})
    api = Api(workspace)
    name = workspace.open_source(str(clip))
    before = api.desk(name)
    before.act({"do": "add_object", "name": "cat"})
    before.paint(0, 1, drawn()[1][0, 0], "brush")
    before.project.frames.forget()
    clip.rename(tmp_path / "moved")
    if running:
        begun = threading.Event()

        def work(job):
            begun.set()
            while not job.stopping():
                pass
            before.project.frames.forget()
            return {"stopped": True}

        before._begin("track", work)
        assert begun.wait(60)
    assert workspace.open_source(str(tmp_path / "moved")) == name
    assert before._job is None or not before._job.running
    after = api.desk(name)
    assert after.picture(3, 96)
    assert [each["name"] for each in after.state()["objects"]] == ["cat"]
    assert "clip" in after.state()["notes"][0]
    assert api.desk(name) is after
    api.close()


def test_a_video_whose_project_was_deleted_while_it_was_open_gets_a_new_one(tmp_path, tiny_model):
    clip = write_clip(tmp_path / "clip")
    workspace = Workspace(tmp_path / "projects", [tmp_path], tiny_model)
    api = Api(workspace)
    name = workspace.open_source(str(clip))
    api.desk(name).act({"do": "add_object", "name": "cat"})
    shutil.rmtree(tmp_path / "projects" / name)
    assert workspace.open_source(str(clip)) == name
    assert api.desk(name).state()["objects"] == []
    assert api.desk(name).act({"do": "add_object", "name": "dog"})["objects"][0]["name"] == "dog"
    api.close()
    with refusal(OutputError, "already contains a project"):
        mm.Project.create(tmp_path / "projects" / name, clip)


def test_a_folder_of_pictures_of_several_sizes_is_refused_and_leaves_no_project(tmp_path, tiny_model):
    clip = write_clip(tmp_path / "clip")
    cv2.imwrite(str(clip / "00005.png"), np.zeros((*SIZE[::-1], 3), np.uint8))
    api = Api(Workspace(tmp_path / "projects", [tmp_path], tiny_model))

    async def answer():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app()), base_url="http://studio") as client:
            return await client.post("/api/projects", json={"path": str(clip)})

    refused = asyncio.run(answer())
    assert refused.status_code == 400
    assert "00005.png of 'clip' is 96x144 pixels, 00000.png is 144x96" in refused.json()["error"]
    assert list((tmp_path / "projects").iterdir()) == []


def test_pages_of_a_project_that_was_closed_connect_again(tmp_path, tiny_model):
    clip = write_clip(tmp_path / "clip")
    api = Api(Workspace(tmp_path / "projects", [tmp_path], tiny_model))
    name = api._workspace.open_source(str(clip))

    async def told(events):
        queue = api.desk(name).listeners.join()
        shutil.rmtree(tmp_path / "projects" / name)
        await asyncio.to_thread(api._workspace.open_source, str(clip))
        api.desk(name)
        while event := await asyncio.wait_for(queue.get(), 60):
            events.append(event)

    events = []
    asyncio.run(told(events))
    assert events == []
    api.close()


def test_a_project_is_opened_with_the_network_that_it_was_made_with(tmp_path, tiny_model, monkeypatch):
    own, clip = copy.deepcopy(tiny_model), str(write_clip(tmp_path / "clip"))
    monkeypatch.setattr("mnemask.project.project.load_model", {"own": own}.__getitem__)
    for name, expected in (("own", tiny_model), ("compact", own), ("own", tiny_model)):
        workspace = Workspace(tmp_path / "projects", [tmp_path], tiny_model, {"model": name})
        assert workspace.project(workspace.open_source(clip)).model is expected
        workspace.close()


def test_an_open_project_is_at_hand_while_a_long_video_is_listed(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    name = workspace.open_source(str(write_clip(tmp_path / "clip")))
    begun, may_end, found, create = threading.Event(), threading.Event(), [], mm.Project.create

    def listed(*given, **settings):
        begun.set()
        may_end.wait(60)
        return create(*given, **settings)

    monkeypatch.setattr(mm.Project, "create", listed)
    other = write_clip(tmp_path / "other")
    (other / "00000.png").unlink()
    opening = threading.Thread(target=workspace.open_source, args=[str(other)])
    asking = threading.Thread(target=lambda: found.append(workspace.project(name)))
    opening.start()
    assert begun.wait(60)
    asking.start()
    asking.join(5)
    assert found
    may_end.set()
    for thread in (opening, asking):
        thread.join()
    workspace.close()


def test_the_studio_has_one_port_where_that_is_free(monkeypatch):
    with server._listening("127.0.0.1", 0) as first:
        taken = first.getsockname()[1]
        monkeypatch.setattr(server, "PORT", taken)
        with server._listening("127.0.0.1", None) as second:
            assert second.getsockname()[1] != taken
        with pytest.raises(OSError, match="in use"):
            server._listening("127.0.0.1", taken)
    with server._listening("127.0.0.1", None) as third:
        assert third.getsockname()[1] == taken


def test_ctrl_c_ends_what_is_being_asked_for_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(server, "GRACE", 0)
    asking, read = [], apis._json

    def interrupted(request):
        signal.raise_signal(signal.SIGINT)
        return read(request)  # waits for the content, which never comes

    monkeypatch.setattr(apis, "_json", interrupted)

    def ready(address):
        port, token = re.search(r":(\d+)/.token=(.+)", address).groups()
        host = f"127.0.0.1:{port}"
        lines = ["POST /api/projects HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", "Content-Length: 9"]
        asking.append(socket.create_connection(("127.0.0.1", int(port))))
        asking[0].sendall("\r\n".join([*lines, f"Cookie: mnemask-studio-{port}={token}", "", ""]).encode())

    with pytest.raises(KeyboardInterrupt):
        server.serve(Workspace(tmp_path / "projects", [tmp_path]), port=0, ready=ready)
    asking[0].close()
    said = capsys.readouterr().err
    assert "Cancel 1 running task" in said
    assert "Traceback" not in said


def ended(desk):
    """Waits for what runs, and returns what the page is told of it."""
    desk._job._thread.join(120)
    return desk.state()["job"]


def test_an_export_goes_on_where_no_mask_changes_and_keeps_tracking_from_beginning(desk, monkeypatch):
    project, square, may_end = desk.project, torch.zeros(SIZE, dtype=torch.bool), threading.Event()
    square[20:80, 20:60] = True
    project.accept(5, 5)

    def write(project, out, on_frame):
        out.mkdir(parents=True)
        (out / "masks.txt").write_text("1")
        while not may_end.wait(0.01):
            on_frame(0)

    monkeypatch.setattr(desks, "writing", lambda name, options: write)
    desk.export("png", {})
    desk.act({"do": "add_object"})
    desk.act({"do": "settings", "frames": 3})
    desk.act({"do": "redo"})
    desk.act({"do": "clear_key", "frame": 9, "object_id": 1})
    with refusal(InputError, "accepted"):
        desk.click(5, 1, [[100.0, 50.0, 1.0]], None)
    with refusal(InputError, "accepted"):
        desk.paint(5, 1, square, "brush")
    with refusal(InputError, "first click"):
        desk.click(7, 1, [[100.0, 50.0, 0.0]], None)
    with refusal(InputError, "an export is already running", "wait for it"):
        desk.track(0, "forward", None, None)
    assert desk._job.running
    may_end.set()
    assert ended(desk)["export"] == "png"
    may_end.clear()
    desk.export("png", {})
    desk.paint(6, 1, square, "brush")
    assert ended(desk)["stopped"]


def test_clicks_that_find_nothing_or_leave_nothing_say_so_and_change_nothing(desk, monkeypatch):
    project, empty = desk.project, torch.zeros(SIZE, dtype=torch.bool)
    before = project.state

    class FindsNothing:
        def mask(self, *asked):
            return empty

    monkeypatch.setattr(desk, "_clicks", lambda index: FindsNothing())
    with refusal(InputError, "nothing was found", "draw a box"):
        desk.click(2, 1, [[100.0, 50.0, 1.0]], None)
    with refusal(InputError, "nothing was found"):
        desk.click(2, 1, [], [5.0, 5.0, 30.0, 30.0])
    with refusal(InputError, "would leave nothing", "Not here"):
        desk.click(0, 1, [[100.0, 50.0, 0.0]], None)
    assert project.state == before


def test_of_frames_that_are_prepared_while_one_is_being_opened_only_the_last_is_opened(desk, monkeypatch):
    opened, begun, may_end = [], threading.Event(), threading.Event()

    def open_clicks(model, frame, size):
        opened.append(frame.index)
        begun.set()
        may_end.wait(60)
        return ColourClicks(frame)

    monkeypatch.setattr(desks, "open_clicks", open_clicks)
    threads = []
    for index in (3, 4, 5, 6):
        threads.append(threading.Thread(target=desk.prepare, args=[index]))
        threads[-1].start()
        assert begun.wait(60)
        for _ in range(6000):
            if desk._preparing == index:
                break
            threading.Event().wait(0.01)
    may_end.set()
    for thread in threads:
        thread.join(60)
    assert opened == [3, 6]


def test_clicks_in_a_frame_are_of_the_size_that_is_set(desk, monkeypatch):
    sizes = []

    def open_clicks(model, frame, size):
        sizes.append(size)
        return ColourClicks(frame)

    monkeypatch.setattr(desks, "open_clicks", open_clicks)
    for size in (64, 64, 128):
        desk.act({"do": "settings", "size": size})
        desk.prepare(3)
    assert sizes == [64, 128]


def test_a_mark_whose_file_is_lost_is_told_of_and_can_be_made_again_or_cleared(desk):
    project, mask = desk.project, drawn()[1][0, 0]
    project.set_key(3, 1, mask)
    for frame in (0, 3):
        (project.folder / project.state.keys[frame, 1].mask).unlink()
    project._masks._held.clear()
    assert not desk.labels(0).any()
    [note] = desk.facts(0)["notes"]
    assert "mark the object again" in note
    desk.click(0, 1, [[float(part) for part in (*mask.nonzero().float().mean(0).flip(0), 1)]], None)
    assert (desk.labels(0) == 1).any()
    assert desk.facts(0)["notes"] == []
    desk.act({"do": "clear_key", "frame": 3, "object_id": 1})
    assert desk.facts(3)["notes"] == []


def test_up_to_here_accepts_what_is_tracked_before_and_behind_a_frame_that_was_accepted_alone(desk):
    desk.track(0, "forward", 8, None)
    ended(desk)
    desk.act({"do": "accept", "first": 4, "last": 4})
    assert desk.act({"do": "accept", "first": 0, "last": 6})["accepted"] == [[0, 6]]
    with refusal(InputError, "left to accept"):
        desk.act({"do": "accept", "first": 0, "last": 6})


def test_what_is_accepted_at_once_is_unaccepted_by_one_undo_and_what_was_accepted_before_stays(desk):
    mask = drawn()[1][0, 0]
    for frame in (1, 2, 3, 4, 7, 8):  # and frame 0
        desk.project.set_key(frame, 1, mask)
    desk.act({"do": "accept", "first": 2, "last": 2})
    assert desk.act({"do": "accept", "first": 0, "last": 4})["accepted"] == [[0, 4]]
    assert desk.act({"do": "undo"})["accepted"] == [[2, 2]]
    assert desk.act({"do": "accept", "first": 0, "last": 9})["accepted"] == [[0, 4], [7, 8]]
    with mm.Project(shutil.copytree(desk.project.folder, desk.project.folder.parent / "copy")) as copy:
        assert copy.state.accepted == ((0, 4), (7, 8))
    undone = desk.act({"do": "undo"})
    assert undone["accepted"] == [[2, 2]]
    assert (undone["turned"]["first"], undone["turned"]["last"]) == (0, 8)
    assert desk.act({"do": "redo"})["accepted"] == [[0, 4], [7, 8]]


def test_what_was_undone_is_told_with_the_state(desk):
    assert "turned" not in desk.act({"do": "add_object"})
    desk.project.set_key(9, 1, drawn()[1][9, 0])
    turned = desk.act({"do": "undo"})["turned"]
    assert (turned["do"], turned["frame"], turned["object"]) == ("set_key", 9, 1)
    assert desk.act({"do": "redo"})["turned"]["frame"] == 9
    assert desk.act({"do": "redo"})["turned"] is None


def test_keys_lead_to_the_worst_frame_of_each_doubtful_stretch_however_long_the_first_one_is():
    worst = np.zeros(20_000, np.float32)
    worst[100:5000] = 1
    worst[[103, 7000, 7003, 9000]] = 0.6, 0.7, 0.9, 0.5
    worst[15_000:15_010] = np.linspace(0.5, 0.8, 10)
    assert desks._peaks(worst) == [100, 7003, 9000, 15_009]
    assert desks._peaks(worst[:50]) == []
    worst[:] = 0
    worst[::20] = 0.9
    worst[19_000::20] = 1
    peaks = desks._peaks(worst)
    assert len(peaks) == desks.MOST_PEAKS
    assert set(range(19_000, 20_000, 20)) <= set(peaks)


def test_a_look_inside_ends_when_something_else_is_done(desk, monkeypatch):
    begun, failed = threading.Event(), []

    def slow(project, frame, *, stop):
        begun.set()
        while not stop():
            pass
        raise InputError("the way was stopped")

    def look():
        try:
            desk.look(9, None)
        except InputError as error:
            failed.append(error.problem)

    monkeypatch.setattr(desks, "picture_memory", slow)
    looking = threading.Thread(target=look)
    looking.start()
    assert begun.wait(60)
    desk.act({"do": "add_object"})
    looking.join(60)
    assert failed == ["the way was stopped"]


def test_a_turned_video_of_wide_pixels_is_shown_as_its_frames_are(desk, monkeypatch):
    monkeypatch.setattr(desk.project.frames, "pixel_aspect", Fraction(11, 16))
    assert desk.state()["pixel_aspect"] == 11 / 16


def test_a_folder_that_may_not_be_read_is_refused_in_a_sentence(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "projects", [tmp_path])

    def iterdir(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", iterdir)
    with refusal(InputError, "Permission denied", "another folder"):
        workspace.browse(str(tmp_path))


def test_a_named_pipe_is_neither_offered_nor_waited_for(tmp_path):
    workspace = Workspace(tmp_path / "projects", [tmp_path])
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "clip.mp4").touch()
    assert [entry["name"] for entry in workspace.browse(str(tmp_path))["entries"]] == ["projects", "clip.mp4"]
    with refusal(InputError, "neither a file nor a folder", "save the video"):
        workspace.open_source(str(tmp_path / "pipe.mp4"))


def test_a_machine_whose_name_has_capitals_is_reached_by_it():
    guard = server.Guard(lambda *asked: None, "token", 80, frozenset(["Studio-PC", "*"]))
    assert guard._is_own_host("studio-pc:80")
    assert guard._is_own_host("10.0.0.7:80")
    assert not guard._is_own_host("other-pc:80")
