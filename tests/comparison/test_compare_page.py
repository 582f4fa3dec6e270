import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import cv2
import numpy as np
import pytest
from compared_clip import first_masks, tiny_trackers, write_clip

from mnemask.comparison import compare_video
from mnemask.comparison.page import MOST_SHOWN, SCRIPTS, shown_frames

HOSTILE = "<script>alert(1)<"
VOID_TAGS = {"meta", "input"}


class Page(HTMLParser):
    """Every element with its attributes, texts by the tag around them, scripts; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.texts, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts.append(text)
        elif text.strip():
            self.texts.append((self.open[-1], text))


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("hostile")
    video, truth = write_clip(folder, HOSTILE)
    trackers = tiny_trackers(tiny_model, folder)
    settings = {"box": ["</script><b>"]}
    policies = ["lfu", "keep-all"]
    compare_video(video, first_masks(truth), policies, folder / "out", trackers, gt=truth, settings=settings)
    return Page((folder / "out/compare.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(page):
    return json.loads(page.scripts[0])


def test_names_of_files_and_settings_are_text_and_never_markup(page):
    assert ("title", f"{HOSTILE} · policies compared") in page.texts
    assert ("h1", HOSTILE) in page.texts
    assert ("dd", "</script><b>") in page.texts
    assert [tag for tag, _ in page.elements].count("script") == 2


def test_nothing_is_fetched_from_anywhere(page):
    links = [attributes.get(name) for _, attributes in page.elements for name in ("src", "href", "action")]
    assert {link for link in links if link} == {
        "compare.json",
        "compare.csv",
        "frames.csv",
        "policies/lfu/overlay.mp4",
        "policies/keep-all/overlay.mp4",
    }
    assert not any("http://" in script or "https://" in script for script in page.scripts)
    style = (files("mnemask.comparison") / "template/page.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_the_browser_is_told_to_run_this_script_and_no_other(page):
    rule = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in rule
    assert rule.startswith("default-src 'none'")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_ids_are_unique_and_what_is_referred_to_exists(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a[name] for _, a in page.elements for name in ("aria-labelledby", "for") if name in a]
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', page.scripts[1]))
    assert {*named, *wanted} <= set(ids)


def test_every_control_and_picture_has_a_name(page):
    for tag, attributes in page.elements:
        if tag in ("canvas", "button") or attributes.get("role") in ("img", "region", "group"):
            assert attributes.get("aria-label"), (tag, attributes)


def test_the_data_has_all_that_is_drawn(data):
    assert data["shown"] == list(range(8))
    assert set(data["images"]) >= {str(index) for index in data["shown"]}
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data["images"]["0"]), np.uint8), cv2.IMREAD_COLOR)
    assert list(picture.shape[:2]) == data["size"]
    for policy in ("lfu", "keep-all"):
        assert set(data["outlines"][policy]) == {str(index) for index in range(8)}
        assert [look["frame"] for look in data["looks"][policy]] == [1, 3, 5, 7]
    assert set(data["truth"]) == {str(index) for index in range(8)}
    assert set(data["charts"]) == {"agreement", "score", "bytes"}
    assert {moment["frame"] for moment in data["moments"]} <= set(data["shown"])
    sources = {tile["frame"] for looks in data["looks"].values() for look in looks for tile in look["tiles"]}
    assert {str(frame) for frame in sources} <= set(data["images"])


def test_a_long_video_is_shown_in_part_but_with_the_frames_that_matter():
    shown = shown_frames(3000, [17, 2_998])
    assert len(shown) <= MOST_SHOWN
    assert len(shown) > MOST_SHOWN - 3
    assert {0, 17, 2_998, 2_999} <= set(shown)
    assert shown_frames(3, [1]) == [0, 1, 2]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read the script")
def test_the_script_is_javascript(tmp_path):
    template = files("mnemask.comparison") / "template"
    whole = "".join((template / name).read_text(encoding="utf-8") for name in SCRIPTS)
    (tmp_path / "page.js").write_text(whole, encoding="utf-8")
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)
