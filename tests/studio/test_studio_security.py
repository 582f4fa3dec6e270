import re
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from studio_server import running, write_clip
from websockets.sync.client import connect

import mnemask as mm

STATIC = Path(mm.__file__).parent / "studio" / "static"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secure")
    write_clip(folder / "named/clip")
    write_clip(folder / "other/secret")
    (folder / "named/way-out").symlink_to(folder / "other")
    return folder


@pytest.fixture(scope="module")
def studio(place):
    with running(place / "named", projects=place / "projects") as started:
        yield started


def test_nothing_is_told_without_the_token(studio):
    with httpx.Client(base_url=studio.base) as stranger:
        for path in ("/", "/?token=guess", "/static/app.js", "/api/workspace", "/api/browse?path=/"):
            assert stranger.get(path).status_code == 403
        stranger.cookies.set(f"mnemask-studio-{studio.port}", studio.token[:-1])
        assert stranger.get("/api/workspace").status_code == 403


def test_the_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_can_use(studio):
    with httpx.Client(base_url=studio.base) as browser:
        answer = browser.get("/", params={"token": studio.token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1.evil.example:{port}", "", "[::1"])
def test_another_host_name_is_refused_so_that_none_can_be_rebound(studio, host):
    with studio.client() as client:
        headers = {"host": host.format(port=studio.port)}
        assert client.get("/api/workspace", headers=headers).status_code in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", None])
def test_nothing_is_changed_for_a_page_of_another_origin(studio, place, origin):
    with studio.client() as client:
        del client.headers["origin"]
        headers = {} if origin is None else {"origin": origin}
        asked = {"path": str(place / "named/clip")}
        assert client.post("/api/projects", json=asked, headers=headers).status_code == 403
    assert not list((place / "projects").glob("*/project.json"))


def test_events_are_told_to_the_own_page_only(studio, place):
    with studio.client() as client:
        name = client.post("/api/projects", json={"path": str(place / "named/clip")}).json()["name"]
    address = f"ws://127.0.0.1:{studio.port}/api/projects/{name}/events"
    cookie = {"cookie": f"mnemask-studio-{studio.port}={studio.token}"}
    with connect(address, origin=studio.base, additional_headers=cookie) as socket:
        assert '"type":"state"' in socket.recv().replace(" ", "")
    asking = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
    asking["sec-websocket-key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    path = f"{studio.base}/api/projects/{name}/events"
    for headers in ({"origin": "http://evil.example", **cookie}, {"origin": studio.base}, cookie):
        assert httpx.get(path, headers={**asking, **headers}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "/etc/passwd",
        "{place}/other/secret",
        "{place}/named/way-out/secret",
        "{place}/named/../other/secret",
        "\0",
        ".",
        "~",
    ],
)
def test_only_what_lies_below_the_named_folders_is_listed_or_opened(studio, place, path):
    path = path.format(place=place)
    with studio.client() as client:
        for answer in (
            client.get("/api/browse", params={"path": path}),
            client.post("/api/projects", json={"path": path}),
        ):
            assert answer.status_code == 400, answer.text
            assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/api/projects/..%2f..%2fother",
        "/api/projects/../../etc",
        "/api/projects/clip/exports/..%2f..%2fproject.json",
        "/api/projects/clip/exports/%2e%2e/project.json",
        "/api/projects/clip/exports//etc/passwd",
        "/api/projects/clip/zip/%2e%2e",
        "/api/projects/clip/zip/%00",
        "/api/projects/clip/zip/.",
    ],
)
def test_no_address_leads_out_of_its_folder(studio, path):
    with studio.client() as client:
        answer = client.get(path)
        assert answer.status_code in (400, 404)
        assert "num_frames" not in answer.text


def test_a_project_of_a_video_elsewhere_is_not_opened(studio, place):
    with mm.Project.create(place / "projects/elsewhere", place / "other/secret"):
        pass
    with studio.client() as client:
        assert client.get("/api/projects/elsewhere").status_code == 400


def test_what_is_too_large_is_refused(studio):
    with studio.client() as client:
        path = "/api/projects/clip/masks?frame=0&object=1"
        for content in (b"\0" * (33 * 2**20), (b"\0" * 2**20 for _ in range(33))):  # the second says no length
            with suppress(httpx.TransportError):  # cut off before it was sent
                assert client.post(path, content=content).status_code in (400, 413)
        assert client.post("/api/projects/clip/actions", content=b"[" * 2**21).status_code == 400


@pytest.mark.parametrize(
    "asked",
    [
        {"do": "settings", "model": "/etc/passwd"},
        {"do": "__class__"},
        {"do": "accept", "first": "0", "last": []},
        {"do": "add_object", "name": "x" * 5000},
        {"do": "add_object", "surprise": 1},
        {"do": "clear_key", "frame": -1, "object_id": 1},
        {"do": "update_object", "object_id": 99, "name": "x"},
        {},
    ],
)
def test_an_action_that_cannot_be_is_refused_in_a_sentence(studio, asked):
    with studio.client() as client:
        answer = client.post("/api/projects/clip/actions", json=asked)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]


def test_the_page_may_load_nothing_from_elsewhere_and_does_not_try_to(studio):
    with studio.client() as client:
        policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for file in STATIC.iterdir():
        addresses = set(re.findall(r"\b(?:https?:)?//[\w.-]+\.\w+", file.read_text()))
        assert addresses <= {"http://www.w3.org"}, file


def test_a_name_from_a_user_is_never_markup():
    for file in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", file.read_text()), file


def test_listening_to_others_warns(place):
    with running(place / "named", projects=place / "others", more=["--host", "127.0.0.2"]) as started:
        assert "127.0.0.2" in started.base
        with started.client() as client:
            assert client.get("/api/workspace").status_code == 200
