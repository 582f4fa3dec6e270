"""The example of an HTTP service: what it answers, and what it refuses."""

import io
import runpy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from drawn_clip import drawn_clip
from PIL import Image

import mnemask as mm

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/service"
app, load_test = (runpy.run_path(str(EXAMPLE / name)) for name in ("app.py", "load_test.py"))
FRAMES, MASKS = drawn_clip(4, num_objects=1)
AS_THEY_ARE = mm.TrackerConfig(short_side=None)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG")
    return file.getvalue()


def picture(t):
    return png(FRAMES[t].permute(1, 2, 0))


@pytest.fixture
def serve(tiny_model):
    """Starts a service with limits of one's own on a free port; returns a client of it."""
    running = []

    def start(**limits):
        service = app["Service"](tiny_model, app["Limits"](**limits), AS_THEY_ARE)
        server = uvicorn.Server(uvicorn.Config(service.app(), port=0, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        (port,) = {socket.getsockname()[1] for each in server.servers for socket in each.sockets}
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        running.append((client, server, thread))
        return client

    yield start
    for client, server, thread in running:
        client.close()
        server.should_exit = True
        thread.join()


def opened(client):
    return "/sessions/" + client.post("/sessions").json()["session"]


def first(client, session):
    assert client.put(f"{session}/masks", content=png(MASKS[0, 0].byte())).status_code == 204
    return client.post(f"{session}/frames", content=picture(0))


def indexed(labels):
    image, file = Image.fromarray(np.asarray(labels)), io.BytesIO()
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.save(file, "PNG", bits=2)
    return file.getvalue()


def test_an_indexed_mask_is_what_its_indices_say(serve):
    client = serve()
    answers = []
    for mask in (png, indexed):
        session = opened(client)
        assert client.put(f"{session}/masks", content=mask(MASKS[0, 0].byte())).status_code == 204
        answers.append(client.post(f"{session}/frames", content=picture(0)).content)
    assert answers[0] == answers[1]
    assert np.asarray(Image.open(io.BytesIO(answers[0]))).any()


def refused(answer, status, *facts):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"problem", "remedy"}
    assert all(answer.json().values())
    assert all(fact in str(answer.json()) for fact in facts), answer.text


def test_two_videos_that_take_turns_get_the_masks_that_a_tracker_gives(serve, tiny_model):
    client, tracker = serve(), mm.Tracker(tiny_model, AS_THEY_ARE)
    sessions = [opened(client), opened(client)]
    for t, frame in enumerate(FRAMES):
        labels = tracker.step(frame, {1: MASKS[0, 0]} if t == 0 else None).labels
        for session in sessions:
            answer = first(client, session) if t == 0 else client.post(f"{session}/frames", content=picture(t))
            assert answer.headers["x-frame"] == str(t)
            assert np.array_equal(Image.open(io.BytesIO(answer.content)), labels)
    assert client.get(sessions[0]).json() == {"frames": 4, "objects": [1], "size": [64, 96]}
    assert client.get("/health").json()["sessions"] == 2
    assert "mnemask_frames_total 8" in client.get("/metrics").text
    assert client.delete(f"{sessions[0]}/objects/1").status_code == 204
    assert client.get(sessions[0]).json()["objects"] == []
    assert client.delete(sessions[0]).status_code == 204
    refused(client.get(sessions[0]), 404, "POST /sessions")


def test_what_is_no_frame_is_refused_and_the_video_goes_on(serve):
    client = serve(upload=20_000, pixels=64 * 96, objects=1)
    session = opened(client)
    first(client, session)
    frames = f"{session}/frames"
    refused(client.post(frames, content=b"rubbish"), 422, "neither a JPEG")
    refused(client.post(frames, content=picture(1)[:3000]), 422, "JPEG or PNG")
    refused(client.post(frames, content=b"0" * 20_001), 413, "20000 bytes")
    refused(client.post(frames, content=png(np.zeros((65, 96, 3), np.uint8))), 413, "96×65")
    refused(client.post(frames, content=png(np.zeros((32, 96, 3), np.uint8))), 422, "96×32")
    refused(client.put(f"{session}/masks", content=picture(1)), 422, "grey levels")
    for wrong, fact in (((20, 30), "30×20"), ((64, 96), "no object")):
        refused(client.put(f"{session}/masks", content=png(np.full(wrong, wrong[0] < 64, np.uint8))), 422, fact)
    assert client.put(f"{session}/masks", content=png(np.full((64, 96), 2, np.uint8))).status_code == 204
    refused(client.post(frames, content=picture(1)), 422, "1 objects")
    assert client.delete(f"{session}/masks").status_code == 204
    refused(client.delete(f"{session}/objects/9"), 422, "9")
    refused(client.get("/nothing"), 404, "docs/deployment.md")
    assert client.post(frames, content=picture(1)).headers["x-frame"] == "1"


def test_a_mask_that_is_no_png_is_refused(serve):
    client, file = serve(), io.BytesIO()
    Image.fromarray(MASKS[0, 0].byte().numpy()).save(file, "JPEG")
    session = opened(client)
    for data in (file.getvalue(), b""):
        refused(client.put(f"{session}/masks", content=data), 422, "no PNG")
    assert client.post(f"{session}/frames", content=picture(0)).status_code == 200
    assert client.get(session).json()["objects"] == []


@pytest.mark.parametrize("mask", [png, indexed])
def test_a_mask_that_is_cut_off_anywhere_is_refused(serve, mask):
    client = serve()
    session, data = opened(client), mask(MASKS[0, 0].byte())
    for length in range(len(data)):
        refused(client.put(f"{session}/masks", content=data[:length]), 422)
        if length > len(data) - 9:
            refused(client.post(f"{session}/frames", content=data[:length]), 422)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 255
    refused(client.put(f"{session}/masks", content=bytes(damaged)), 422)
    assert client.put(f"{session}/masks", content=data).status_code == 204
    assert client.post(f"{session}/frames", content=picture(0)).status_code == 200


def test_masks_that_were_given_are_discarded_before_their_frame(serve):
    client = serve()
    session = opened(client)
    first(client, session)
    client.put(f"{session}/masks", content=png(2 * MASKS[1, 0].byte()))
    assert client.delete(f"{session}/masks").status_code == 204
    assert client.post(f"{session}/frames", content=picture(1)).status_code == 200
    assert client.get(session).json()["objects"] == [1]
    refused(client.delete("/sessions/nobody/masks"), 404, "POST /sessions")


def test_more_sessions_than_there_is_room_for_are_refused_until_one_is_idle(serve):
    client = serve(sessions=1, idle=0.2)
    session = opened(client)
    refused(client.post("/sessions"), 429, "1 sessions")
    time.sleep(0.3)
    assert client.post("/sessions").status_code == 201
    refused(client.get(session), 404)
    assert "mnemask_dropped_idle_total 1" in client.get("/metrics").text


def test_a_second_frame_of_a_session_that_is_busy_is_refused(serve, tiny_model, monkeypatch):
    client = serve()
    session, encode = opened(client), tiny_model.encode_key
    first(client, session)

    def slowly(image):
        time.sleep(0.5)
        return encode(image)

    monkeypatch.setattr(tiny_model, "encode_key", slowly)
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda t: client.post(f"{session}/frames", content=picture(t)), (1, 2)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    refused(next(answer for answer in answers if answer.status_code == 409), 409, "another frame")
    assert client.get(session).json()["frames"] == 2


def test_an_object_is_not_removed_while_a_frame_is_computed(serve, tiny_model, monkeypatch):
    client = serve()
    session, encode = opened(client), tiny_model.encode_key
    first(client, session)
    begun, removed = threading.Event(), threading.Event()

    def slowly(image):
        begun.set()
        assert removed.wait(20)
        return encode(image)

    monkeypatch.setattr(tiny_model, "encode_key", slowly)
    with ThreadPoolExecutor(1) as threads:
        frame = threads.submit(client.post, f"{session}/frames", content=picture(1))
        assert begun.wait(20)
        answer = client.delete(f"{session}/objects/1")
        removed.set()
    refused(answer, 409, "frame of this session")
    assert frame.result().status_code == 200
    assert client.delete(f"{session}/objects/1").status_code == 204


def test_a_fault_of_the_service_is_told_without_a_detail_and_the_video_goes_on(serve, tiny_model, monkeypatch):
    client = serve()
    session, encode = opened(client), tiny_model.encode_key
    first(client, session)
    monkeypatch.setattr(tiny_model, "encode_key", lambda image: 1 / 0)
    answer = client.post(f"{session}/frames", content=picture(1))
    refused(answer, 500, "log")
    assert "zero" not in answer.text
    monkeypatch.setattr(tiny_model, "encode_key", encode)
    assert client.post(f"{session}/frames", content=picture(1)).headers["x-frame"] == "1"


def test_the_load_test_has_a_time_for_each_frame_and_leaves_no_session(serve):
    client = serve()
    seconds = load_test["client"](
        str(client.base_url).rstrip("/"), [picture(t) for t in range(4)], png(MASKS[0, 0].byte())
    )
    assert len(seconds) == 4
    assert client.get("/health").json()["sessions"] == 0
