"""The studio in a real browser, as its user sees it. Needs Chromium and Playwright (`.ci/run` installs the browser)."""

import re
import shutil
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from studio_server import NUM_FRAMES, SIZE, drawn, running, write_clip

import mnemask as mm
from mnemask.export import export_masks
from mnemask.io.edges import Cutout, Edges
from mnemask.project import export_project, replay
from mnemask.studio.exports import files_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium, as .ci/run does")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
FLAGS += "--disable-component-update --disable-sync"
DAMAGED = {"status": 400, "json": {"error": "it is damaged; restore it"}}
AXE = Path(__file__).resolve().parents[2] / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def masks():
    return drawn()[1]


@pytest.fixture(scope="module", autouse=True)
def chromium():
    """One browser for all tests, of which each has a context of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browsing.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield
        browsing.browser.close()


@contextmanager
def browsing(studio, refused=False, script="", **options):
    """A page of the studio; nothing may go wrong in its console, save that the server refuses where that is tested.

    Args:
        studio: that runs.
        refused: whether the server may refuse, or not answer.
        script: what is run before the page's own.
        **options: of the browser's context.
    """
    said = []
    context = browsing.browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True, **options)
    try:
        page = context.new_page()
        page.add_init_script(script)
        # From the first route on, all requests are intercepted; if it came later, the next requests might escape it.
        page.route("**/nothing", lambda route: route.abort())
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(studio.address)
        page.wait_for_selector("#welcome", state="hidden")
        saved(page)
        yield page
    finally:
        context.close()
    assert [text for text in said if not (refused and re.search("status of 400|ERR_FAILED", text))] == []


def place(page, x, y):
    """Where a pixel of the video is on the screen."""
    box, (height, width) = page.locator("#view").bounding_box(), SIZE
    scale = min((box["width"] - 20) / width, (box["height"] - 20) / height)
    left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
    return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale


def aim(page, x, y):
    """Moves the cross-hair to a pixel of the video by the arrow keys."""
    from playwright.sync_api import expect

    def where():
        return [int(part) for part in re.findall(r"\d+", page.locator("#hint").inner_text())[:2]]

    for axis, (back, forth) in enumerate((("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"))):
        while (away := (x, y)[axis] - where()[axis]) != 0:
            page.keyboard.press(f"{'' if abs(away) > 12 else 'Shift+'}{forth if away > 0 else back}")
    expect(page.locator("#hint")).to_contain_text(f"{x}, {y} ")


def click(page, x, y, button="left"):
    with page.expect_response(re.compile("/clicks$")) as answer:
        page.mouse.click(*place(page, x, y), button=button)
    assert answer.value.ok
    saved(page)


def saved(page):
    shows(page, "#saved", "Saved")


def shows(page, selector, text):
    """Waits until an element shows a text."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text, timeout=120_000)


def at_frame(page, number):
    """Waits until a frame is shown."""
    shows(page, "#frame-number", str(number))


def names_frame(page, number):
    """Waits until the field for the number of a frame names one."""
    from playwright.sync_api import expect

    expect(page.locator("#goto")).to_have_value(str(number), timeout=120_000)


def drag(page, x, y, to_x, to_y):
    page.mouse.move(*place(page, x, y))
    page.mouse.down()
    page.mouse.move(*place(page, to_x, to_y), steps=4)
    page.mouse.up()


class Held:
    """Requests whose answers wait: the server has answered, the page has not heard it yet.

    Args:
        page: that asks.
        address: pattern of the addresses.
    """

    def __init__(self, page, address):
        self._page, self._waiting, self._ended = page, [], False
        page.route(address, self._hold)

    def _hold(self, route):
        if self._ended:
            route.fallback()
        else:
            self._waiting.append((route, route.fetch()))

    def wait(self):
        """Returns once a request has been answered."""
        until_asked(self._page, self._waiting)

    def release(self):
        """Lets the page hear the answers so far."""
        while self._waiting:
            route, answer = self._waiting.pop(0)
            route.fulfill(response=answer)
        self._page.wait_for_timeout(150)

    def end(self):
        """Holds nothing any more."""
        self._ended = True
        self.release()


def close_dialog(page):
    """Presses Escape and waits until no dialog is open or has the focus, which takes the browser a moment."""
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    page.wait_for_selector("dialog :focus", state="detached")


def until_asked(page, requests, count=1):
    """Waits until the page has sent so many of the requests that are collected there."""
    deadline = time.monotonic() + 120
    while len(requests) < count:
        assert time.monotonic() < deadline, f"the page sent {len(requests)} of {count} requests"
        page.wait_for_timeout(20)


def refuse(page, address):
    """Has the server refuse what is asked for there; returns the addresses so far."""
    asked = []

    def refused(route):
        asked.append(route.request.url)
        route.fulfill(**DAMAGED)

    page.route(address, refused)
    return asked


def dab(page, x, y):
    with page.expect_response(re.compile("/masks")):
        drag(page, x, y, x, y)


def take_a_brush(page):
    """Makes an object to paint."""
    page.keyboard.press("o")
    saved(page)
    page.keyboard.press("b")


def track(page, key):
    """Tracks to the end; a short pass may show its button for less time than passes between two looks at it."""
    page.evaluate(
        """() => { const stop = document.querySelector('#stop'); window.wasShown = false;
        new MutationObserver((changes) => {
        window.wasShown ||= !stop.hidden || changes.some((change) => change.oldValue === null); })
        .observe(stop, { attributeFilter: ['hidden'], attributeOldValue: true }); }"""
    )
    with page.expect_response(re.compile("/track$")):
        page.keyboard.press(key)
    page.wait_for_function("() => window.wasShown", timeout=120_000)
    page.wait_for_selector("#stop", state="hidden", timeout=300_000)


def export(page, group, title):
    """Exports, and returns the name of the file that is offered first."""
    page.get_by_role("button", name=group).click()
    page.get_by_role("radio", name=title).check()
    with page.expect_response(re.compile("/export$")):
        page.locator("#export-start").click()
    page.wait_for_selector("#export-progress", state="hidden", timeout=120_000)
    with page.expect_download() as download:
        page.locator("#export-result a").last.click()
    return download.value.suggested_filename


def middle(mask):
    y, x = (int(values.float().mean()) for values in torch.nonzero(mask, as_tuple=True))
    return x, y


def shown(page):
    """Pixels of the video that are tinted."""
    return page.evaluate(
        """() => { const canvas = document.createElement('canvas'); const view = document.querySelector('#view');
        canvas.width = view.width; canvas.height = view.height; const context = canvas.getContext('2d');
        context.drawImage(view, 0, 0); return [...context.getImageData(0, 0, canvas.width, canvas.height).data]
        .reduce((sum, value, place) => (sum * 31 + value * (place % 7)) % 1000003, 0); }"""
    )


def stored(studio, index, projects):
    """What the project on the disk says of a frame, once the studio has ended."""
    with mm.Project(projects / studio.project) as project:
        return project.labels(index)


def test_click_track_correct_and_export_in_a_browser_gives_what_python_gives(tmp_path, masks):
    clip, projects = write_clip(tmp_path / "clip"), tmp_path / "projects"
    with running(clip, projects=projects) as studio:
        with browsing(studio) as page:
            before = shown(page)
            click(page, *middle(masks[0, 0]))
            assert page.locator("#objects li").count() == 1
            page.wait_for_timeout(500)
            assert shown(page) != before, "the mask is to be seen"
            x, y = middle(masks[0, 0])
            click(page, x + 4, y)
            asked = (
                "fetch('/api/projects/clip').then((answer) => answer.json()).then((state) => state.keys[0].how.points)"
            )
            assert len(page.evaluate(asked)) == 2, "the click that made the object is not forgotten"
            page.keyboard.press("b")
            drag(page, *middle(masks[0, 0]), 100, 80)
            saved(page)
            page.keyboard.press("Control+z")
            saved(page)
            track(page, "t")
            at_frame(page, NUM_FRAMES - 1)
            page.keyboard.press("Home")
            for _ in range(12):
                page.keyboard.press("ArrowRight")
            at_frame(page, 12)
            page.keyboard.press("p")
            x, y = middle(masks[12, 0])
            for corner in ((x - 8, y - 8), (x + 8, y - 8), (x + 8, y + 8)):
                page.mouse.click(*place(page, *corner))
            page.keyboard.press("Enter")
            saved(page)
            shows(page, "#badge", "marked")
            track(page, "w")
            page.keyboard.press("Control+e")
            page.get_by_label("Feather").fill("2")
            page.locator("#only").select_option("1")
            assert export(page, "Video for editors", "Green screen") == "green.mp4"
            assert export(page, "Labels", "COCO one JSON") == "annotations.json"
            export(page, "Masks and data", "PNG masks")
        assert studio.end() == 0
    files = sorted((projects / studio.project / "exports/png/masks").glob("*.png"))
    assert len(files) == NUM_FRAMES
    exports = projects / studio.project / "exports"
    with replay(projects / studio.project, tmp_path / "again") as again:
        export_masks(again, "coco", tmp_path / "coco")
        export_project(again, tmp_path / "green", mask_format="green", cutout=Cutout((1,), edges=Edges(feather=2.0)))
        for name in ("coco/annotations.json", "green/masks/green.mp4"):
            assert (exports / name).read_bytes() == (tmp_path / name).read_bytes()
        assert len(again.state.keys) == 2
        for index, file in enumerate(files):
            assert torch.equal(mm.read_mask(file)[1], again.labels(index) == 1), index


def test_with_the_keyboard_alone_an_object_is_clicked_boxed_tracked_and_exported_as_one_zip(tmp_path, masks):
    clip, projects = write_clip(tmp_path / "clip"), tmp_path / "projects"
    with running(clip, projects=projects) as studio:
        with browsing(studio) as page:
            page.keyboard.press("f")
            aim(page, *middle(masks[0, 0]))
            with page.expect_response(re.compile("/clicks$")):
                page.keyboard.press("Enter")
            saved(page)
            page.keyboard.press("o")
            saved(page)
            page.keyboard.press("x")
            top, left = masks[0, 1].nonzero().amin(0).tolist()
            bottom, right = masks[0, 1].nonzero().amax(0).tolist()
            aim(page, left - 2, top - 2)
            page.keyboard.press("Space")
            aim(page, right + 2, bottom + 2)
            with page.expect_response(re.compile("/clicks$")):
                page.keyboard.press("Space")
            saved(page)
            page.keyboard.press("Escape")
            page.keyboard.press("ArrowRight")
            at_frame(page, 1)
            page.keyboard.press("Home")
            at_frame(page, 0)
            track(page, "t")
            page.keyboard.press("Control+e")
            page.get_by_role("button", name="Masks and data").press("Enter")
            page.locator("#export-start").press("Enter")
            page.wait_for_selector("#export-result a", timeout=120_000)
            with page.expect_download() as download:
                page.locator("#export-result a").first.press("Enter")
            path = tmp_path / "all.zip"
            download.value.save_as(path)
            assert download.value.suggested_filename == f"{studio.project}-png.zip"
        assert studio.end() == 0
    exported = projects / studio.project / "exports"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    on_disk = {path.relative_to(exported).as_posix(): path.read_bytes() for path in files_of(exported / "png")}
    assert files == on_disk
    assert len(files) == NUM_FRAMES
    with mm.Project(projects / studio.project) as project:
        for row in (0, 1):
            found = project.labels(0) == row + 1
            assert (found & masks[0, row]).sum() > 0.5 * (found | masks[0, row]).sum()


def test_a_studio_that_was_killed_is_reopened_as_it_was(tmp_path, masks):
    clip, projects = write_clip(tmp_path / "clip"), tmp_path / "projects"
    with running(clip, projects=projects) as studio:
        with browsing(studio) as page:
            click(page, *middle(masks[0, 0]))
            page.locator("#objects input[type=text]").first.fill("Nala")
            page.keyboard.press("Enter")
            saved(page)
            page.keyboard.press("o")
            saved(page)
            page.keyboard.press("x")
            (top, left), (bottom, right) = (
                masks[0, 1].nonzero().amin(0).tolist(),
                masks[0, 1].nonzero().amax(0).tolist(),
            )
            with page.expect_response(re.compile("/clicks$")):
                drag(page, left - 2, top - 2, right + 2, bottom + 2)
            saved(page)
        studio.kill()
    with running(clip, projects=projects) as studio:
        with browsing(studio) as page:
            assert page.locator("#objects li").count() == 2
            assert page.locator("#objects input[type=text]").first.input_value() == "Nala"
            track(page, "t")
            shows(page, "#facts dd:last-child", f"{NUM_FRAMES} of {NUM_FRAMES} frames")
            at_frame(page, NUM_FRAMES - 1)
            page.keyboard.press("a")
            saved(page)
            shows(page, "#badge", "accepted")
        studio.end()
    labels = stored(studio, 5, projects)
    assert set(labels.unique().tolist()) == {0, 1, 2}


def test_an_object_that_was_never_tracked_is_not_shown_as_tracked_though_another_was(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        click(page, *middle(masks[0, 0]))
        shows(page, "#hint", "Right-click removes; when the mask fits, press T to track")
        page.keyboard.press("n")
        shows(page, "#toast", "Nothing is tracked yet.")
        track(page, "t")
        page.keyboard.press("n")
        shows(page, "#toast", "No doubtful frames: all masks look certain and stable.")
        page.locator("#goto").fill("4")
        page.keyboard.press("Enter")
        at_frame(page, 4)
        shows(page, "#badge", "tracked")
        take_a_brush(page)
        shows(page, "#badge", "not tracked")
        dab(page, *middle(masks[4, 1]))
        saved(page)
        page.keyboard.press("c")
        shows(page, "#hint", "Right-click removes; when the mask fits, press T to track")
        page.keyboard.press("ArrowRight")
        at_frame(page, 5)
        shows(page, "#badge", "not tracked")
        shows(page, "#facts", f"Tracked0 of {NUM_FRAMES} frames")
        page.keyboard.press("n")
        shows(page, "#toast", f"Object 2 is not tracked in {NUM_FRAMES - 5} frames.")
        page.keyboard.press("Control+e")
        missing = f"Object 2 is neither tracked nor marked in {NUM_FRAMES - 1} of {NUM_FRAMES} frames, 4 of them"
        shows(page, "#untracked", f"{missing} before its first mark: it will be missing there.")
        close_dialog(page)
        page.keyboard.press("1")
        shows(page, "#badge", "tracked")
        shows(page, "#facts dd:last-child", f"{NUM_FRAMES} of {NUM_FRAMES} frames")
        for row in (2, 1):
            page.get_by_role("button", name=re.compile("^Delete")).first.click()
            page.wait_for_selector(f"#objects li:nth-child({row})", state="detached")
            saved(page)
            shows(page, "#badge", "not tracked")
            page.keyboard.press("n")
            shows(page, "#toast", "Nothing is tracked yet.")


def test_the_key_for_doubtful_frames_knows_what_was_just_accepted(tmp_path, masks):
    clip, doubtful = write_clip(tmp_path / "clip"), [7]
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.route("**/timeline?*", lambda route: route.fulfill(json={**route.fetch().json(), "doubtful": doubtful}))
        for key in ("c", "Shift+a", "Shift+a"):
            with page.expect_response(re.compile("/timeline")):
                if key == "c":
                    click(page, *middle(masks[0, 0]))
                else:
                    page.keyboard.press(key)
            page.wait_for_timeout(150)
            page.keyboard.press("n")
            if doubtful:
                at_frame(page, doubtful.pop())
                page.keyboard.press("Home")
                at_frame(page, 0)
            else:
                shows(page, "#toast", "Nothing is tracked yet.")
                doubtful.append(7)


def keys_of(page, project="clip"):
    """What is marked, as the server says."""
    return page.evaluate(
        f"fetch('/api/projects/{project}').then((answer) => answer.json()).then((state) => state.keys)"
    )


def test_marks_are_taken_back_and_no_hasty_gesture_changes_another_frame(tmp_path, masks):
    clip, projects = write_clip(tmp_path / "clip"), tmp_path / "projects"
    x, y = middle(masks[0, 0])
    with running(clip, projects=projects) as studio, browsing(studio) as page:
        page.mouse.dblclick(*place(page, x, y))
        page.wait_for_selector("#objects li")
        saved(page)
        assert [len(key["how"]["points"]) for key in keys_of(page)] == [1], "a double click is one click"
        assert page.locator("#objects li").count() == 1
        page.wait_for_timeout(700)
        size = "fetch('/api/projects/clip/labels/0').then((a) => a.arrayBuffer()).then((all) => all.byteLength)"
        once = page.evaluate(size)
        click(page, *middle(masks[0, 1]))
        page.wait_for_timeout(700)  # else it is a double click
        click(page, *middle(masks[0, 1]))  # on the click itself: takes it back
        again = page.evaluate(size)
        assert (len(keys_of(page)[0]["how"]["points"]), again) == (1, once), "and its mask with it"
        page.keyboard.press("Delete")
        saved(page)
        assert keys_of(page) == []
        page.keyboard.press("Control+z")
        saved(page)
        page.keyboard.press("ArrowRight")
        at_frame(page, 1)
        page.keyboard.press("e")
        drag(page, 4, 4, 12, 8)
        page.wait_for_timeout(300)
        assert [key["frame"] for key in keys_of(page)] == [0], "an eraser that hits nothing marks nothing"
        page.keyboard.press("b")
        page.keyboard.press("Space")  # plays
        page.mouse.move(*place(page, x, y))
        page.mouse.down()
        frame = int(page.locator("#goto").input_value())
        for step in range(8):
            page.wait_for_timeout(60)
            page.mouse.move(*place(page, x + step, y))
        page.mouse.up()
        saved(page)
        assert sorted(key["frame"] for key in keys_of(page)) == sorted({0, frame})


def test_a_click_that_was_undone_does_not_come_back_with_the_next_one(tmp_path, masks):
    clip, (x, y) = write_clip(tmp_path / "clip"), middle(masks[0, 0])
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.locator("summary").click()
        click(page, x, y)
        click(page, *middle(masks[0, 1]))
        labels = Held(page, "**/labels/0")
        page.keyboard.press("Control+z")
        labels.wait()
        settings = Held(page, "**/actions")
        page.locator("#budget").fill("3")
        page.keyboard.press("Enter")
        settings.wait()
        labels.end()
        settings.end()
        saved(page)
        page.wait_for_timeout(700)  # else it is a double click
        click(page, x + 4, y)
        [key] = keys_of(page)
        assert [point[0] for point in key["how"]["points"]] == pytest.approx([x, x + 4], abs=1)


def test_quick_dabs_are_all_kept_though_older_masks_arrive_between_them(tmp_path):
    projects = tmp_path / "projects"
    with running(write_clip(tmp_path / "clip"), projects=projects) as studio:
        with browsing(studio) as page:
            take_a_brush(page)
            labels = Held(page, "**/labels/0")
            dab(page, 20, 20)
            labels.wait()
            dab(page, 70, 50)
            labels.release()
            dab(page, 120, 80)
            labels.end()
            saved(page)
        assert studio.end() == 0
    shown = stored(studio, 0, projects)
    assert [int(shown[y, x]) for x, y in ((20, 20), (70, 50), (120, 80))] == [1, 1, 1]


def test_a_dab_is_kept_though_the_frame_is_left_and_shown_again_before_it_is_saved(tmp_path):
    projects = tmp_path / "projects"
    with running(write_clip(tmp_path / "clip"), projects=projects) as studio:
        with browsing(studio) as page:
            take_a_brush(page)
            on_the_way = []
            page.route("**/masks*", lambda route: on_the_way.append(route))  # the server has not heard of it
            drag(page, 20, 20, 20, 20)
            page.keyboard.press("ArrowRight")
            at_frame(page, 1)
            page.keyboard.press("ArrowLeft")
            page.wait_for_timeout(300)
            on_the_way.pop().continue_()
            page.unroute("**/masks*")
            at_frame(page, 0)
            saved(page)
            dab(page, 120, 80)
            saved(page)
        assert studio.end() == 0
    shown = stored(studio, 0, projects)
    assert [int(shown[y, x]) for x, y in ((20, 20), (120, 80))] == [1, 1]


def test_a_frame_whose_masks_wait_for_what_is_being_saved_can_be_left(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        take_a_brush(page)
        labels, on_the_way = Held(page, "**/labels/0"), []
        page.keyboard.press("o")  # another object, with which the masks are asked for anew
        labels.wait()
        page.route("**/masks*", lambda route: on_the_way.append(route))
        drag(page, 20, 20, 20, 20)
        until_asked(page, on_the_way)
        labels.end()
        page.keyboard.press("ArrowRight")
        at_frame(page, 1)
        on_the_way.pop().continue_()
        saved(page)


def test_the_page_stays_in_the_frame_where_the_user_works_and_goes_where_the_user_goes(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page, studio.client() as client:
        take_a_brush(page)
        dab(page, 40, 40)
        saved(page)
        labels = Held(page, f"**/labels/{NUM_FRAMES - 1}")
        page.keyboard.press("End")
        labels.wait()
        renamed = {"do": "update_object", "object_id": 1, "name": "Nala"}
        client.post("/api/projects/clip/actions", json=renamed)  # as another page would
        page.wait_for_selector("[aria-label='Delete Nala']")
        labels.end()
        at_frame(page, NUM_FRAMES - 1)
        page.keyboard.press("Home")
        at_frame(page, 0)
        for key in ("t", "Space"):  # tracking leads to other frames, and so does playing
            labels = Held(page, re.compile("/labels/[1-9]"))
            page.keyboard.press(key)
            labels.wait()
            page.keyboard.press("o")
            labels.end()
            saved(page)
            at_frame(page, 0)


def test_a_frame_that_is_damaged_ends_playing_and_is_told_of_once(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        asked = refuse(page, re.compile(r"/frames/([3-9]|\d\d)\?"))  # several are loaded ahead
        page.keyboard.press("Space")
        shows(page, "#toast", "It is damaged; restore it")
        page.wait_for_timeout(200)
        before = len(asked)
        page.wait_for_timeout(500)
        assert len(asked) == before
        assert page.locator("#play").get_attribute("aria-label") == "Play"
        assert int(page.locator("#goto").input_value()) < 3


def test_a_frame_that_is_damaged_keeps_no_other_from_being_shown(tmp_path):
    clip, waiting = write_clip(tmp_path / "clip"), []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        page.route("**/frames/3?*", lambda route: waiting.append(route))
        page.locator("#goto").fill("3")
        page.keyboard.press("Enter")
        until_asked(page, waiting)
        page.keyboard.press("ArrowRight")
        waiting[0].fulfill(**DAMAGED)
        at_frame(page, 4)


WAITS = """window.waits = []; const plain = setTimeout;
    window.setTimeout = (work, ms = 0, ...more) =>
        window.holding && ms <= 40 ? waits.push(work) : plain(work, ms, ...more);
    window.release = () => waits.splice(0).forEach((work) => work());"""


def test_playing_that_is_paused_and_begun_again_at_once_plays_every_frame_once(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, script=WAITS) as page:
        page.evaluate("window.holding = true")  # what playing waits for between two frames
        page.keyboard.press("Space")
        at_frame(page, 1)
        page.wait_for_function("waits.length === 1")
        page.keyboard.press("Space")
        page.keyboard.press("Space")
        at_frame(page, 2)
        page.wait_for_function("waits.length === 2")
        page.evaluate("release()")
        at_frame(page, 3)
        page.wait_for_function("waits.length")
        page.wait_for_timeout(300)
        assert page.evaluate("waits.length") == 1


def test_who_goes_to_a_frame_while_the_video_plays_stays_there(tmp_path):
    clip, asked = write_clip(tmp_path / "clip"), []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, script=WAITS) as page:
        page.route("**/frames/18?*", lambda route: asked.append(route))
        page.evaluate("window.holding = true")
        page.keyboard.press("Space")
        at_frame(page, 1)
        page.wait_for_function("waits.length === 1")
        page.locator("#goto").fill("18")
        page.keyboard.press("Enter")
        until_asked(page, asked)
        page.evaluate("release()")
        page.wait_for_timeout(300)
        asked[0].continue_()
        at_frame(page, 18)
        page.wait_for_timeout(300)
        at_frame(page, 18)
        assert page.locator("#play").get_attribute("aria-label") == "Play"


def test_a_frame_that_is_damaged_is_not_named_as_the_shown_one_and_can_be_passed(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        asked = refuse(page, re.compile(r"/frames/([3-6]|1[0-9])\?"))
        for count in (1, 2):
            page.locator("#goto").fill("4")
            page.keyboard.press("Enter")
            until_asked(page, asked, count)
            page.wait_for_selector("#toast", state="visible")
            names_frame(page, 0)
            page.keyboard.press("Escape")
        page.keyboard.press("ArrowLeft")
        until_asked(page, asked, 3)
        page.keyboard.press("ArrowLeft")
        at_frame(page, 2)
        for count in range(4, 8):
            page.keyboard.press("ArrowRight")
            until_asked(page, asked, count)
        page.keyboard.press("ArrowRight")
        at_frame(page, 7)
        page.keyboard.press("Escape")
        page.wait_for_selector("#toast", state="hidden")
        page.keyboard.press("Shift+ArrowRight")
        until_asked(page, asked, 8)
        page.wait_for_selector("#toast", state="visible")
        names_frame(page, 7)
        page.keyboard.press("o")  # who does something does it in the shown frame, and goes on from there
        saved(page)
        page.keyboard.press("ArrowRight")
        at_frame(page, 8)
        page.keyboard.press("Shift+ArrowRight")
        until_asked(page, asked, 9)
        page.keyboard.press("Shift+ArrowRight")
        at_frame(page, NUM_FRAMES - 1)
        assert [int(re.search(r"frames/(\d+)", url)[1]) for url in asked] == [4, 4, 3, 3, 4, 5, 6, 17, 18]


def test_of_the_frames_that_are_stepped_through_one_at_a_time_is_prepared_for_clicks(tmp_path):
    clip, asked = write_clip(tmp_path / "clip"), []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.route("**/prepare", lambda route: asked.append(route))
        page.keyboard.press("ArrowRight")
        at_frame(page, 1)
        until_asked(page, asked)
        for frame in (2, 3, 4):
            page.keyboard.press("ArrowRight")
            at_frame(page, frame)
            page.wait_for_timeout(300)
        assert len(asked) == 1
        asked[0].continue_()
        until_asked(page, asked, 2)
        assert asked[1].request.post_data_json["frame"] == 4
        asked[1].continue_()


def test_after_a_setting_is_chosen_the_arrow_keys_change_the_frame_again(tmp_path):
    clip = write_clip(tmp_path / "clip")
    focus = "document.activeElement.id"
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.locator("summary").click()
        page.locator("#policy").click()
        assert page.evaluate(focus) == "policy"
        page.locator("#policy").select_option(index=1)
        saved(page)
        assert page.evaluate(focus) == ""
        page.keyboard.press("ArrowRight")
        at_frame(page, 1)
        page.locator("#short-side").fill("128")
        page.keyboard.press("Enter")
        saved(page)
        page.keyboard.press("ArrowRight")
        at_frame(page, 2)
        page.locator("#policy").focus()
        chosen = page.locator("#policy").input_value()
        page.keyboard.press("ArrowRight")
        saved(page)
        assert page.evaluate(focus) == "policy"
        assert page.locator("#policy").input_value() != chosen
        at_frame(page, 2)
        asked = "fetch('/api/projects/clip').then((answer) => answer.json()).then((state) => state.settings.size)"
        assert page.evaluate(asked) == 128


def test_what_is_refused_is_seen_though_a_dialog_is_open(tmp_path):
    clip = write_clip(tmp_path / "clip")
    on_top = """() => { const { left, top, width, height } = document.querySelector('#toast').getBoundingClientRect();
        return document.elementFromPoint(left + width / 2, top + height / 2)?.id; }"""
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        page.keyboard.press("Control+o")
        page.wait_for_selector("#entries button")
        refuse(page, "**/api/browse?*")
        page.locator("#entries button", has_text="Up").click()
        shows(page, "#toast", "It is damaged; restore it")
        assert page.evaluate(on_top) == "toast"
        close_dialog(page)
        page.keyboard.press("Control+e")
        page.locator("#export-start").click()
        shows(page, "#toast", re.compile("nothing to export"))
        assert page.evaluate(on_top) == "toast"


def test_the_first_box_and_polygon_make_one_object_each_where_they_were_drawn(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        made = Held(page, "**/actions")
        page.keyboard.press("x")
        drag(page, 20, 20, 80, 70)
        made.wait()
        page.keyboard.press("ArrowRight")
        at_frame(page, 1)
        with page.expect_response(re.compile("/clicks$")):
            made.end()
        saved(page)
        assert [key["frame"] for key in keys_of(page)] == [0]
        page.get_by_role("button", name="Delete Object 1").click()
        page.wait_for_selector("#objects li", state="detached")
        saved(page)
        page.keyboard.press("p")
        for corner in ((20, 20), (80, 20), (80, 70)):
            page.mouse.click(*place(page, *corner))
        page.wait_for_timeout(600)  # else it is a triple click
        page.mouse.dblclick(*place(page, 20, 20))
        page.wait_for_selector("#objects li")
        saved(page)
        shows(page, "#badge", "marked")
        assert [key["how"] for key in keys_of(page)] == [{"tool": "polygon"}]
        assert page.locator("#objects li").count() == 1
        page.keyboard.press("c")
        click(page, 40, 60)
        page.wait_for_timeout(700)  # else it is a double click
        click(page, 40, 60)  # on the click itself: takes it back
        assert [key["how"] for key in keys_of(page)] == [{"tool": "polygon"}], "what was drawn is not lost"


def touches(page, *steps):
    """Fingers that touch the screen, one list of places after the other."""
    session = page.context.new_cdp_session(page)
    before = 0
    for points in steps:
        kind = "touchMove" if len(points) == before else "touchStart" if len(points) > before else "touchEnd"
        fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
        before = len(points)
        page.wait_for_timeout(30)


def test_two_fingers_zoom_and_leave_no_stroke_and_take_no_corner(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, has_touch=True) as page:
        take_a_brush(page)
        before = shown(page)
        x, y = place(page, 60, 50)
        pinch = [[(x, y)], [(x + 12, y)], [(x + 12, y), (x + 90, y)], [(x + 12, y), (x + 120, y)], []]
        touches(page, *pinch)
        page.keyboard.press("0")
        page.mouse.move(5, 5)
        page.wait_for_timeout(300)
        assert shown(page) == before
        assert keys_of(page) == []
        page.keyboard.press("p")
        for corner in ((20, 20), (80, 20)):
            page.mouse.click(*place(page, *corner))
        touches(page, *pinch)
        page.keyboard.press("0")
        page.wait_for_timeout(600)  # else it is a double click
        page.mouse.click(*place(page, 80, 70))
        with page.expect_response(re.compile("/masks")):
            page.keyboard.press("Enter")
        saved(page)
        assert [key["how"] for key in keys_of(page)] == [{"tool": "polygon"}]


def prevents(page, **key):
    """Whether the page takes a key away from the browser."""
    return page.evaluate(
        """(key) => { const event = new KeyboardEvent('keydown', { ...key, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event); return event.defaultPrevented; }""",
        key,
    )


def test_a_press_counts_where_it_begins_keys_with_modifiers_are_the_browsers_and_undo_shows_what_it_changes(
    tmp_path, masks
):
    x, y = middle(masks[0, 0])
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        drag(page, x, y, x + 20, y)
        page.wait_for_timeout(200)
        assert page.locator("#objects li").count() == 0, "what moves is no click"
        click(page, x, y)
        page.keyboard.press("Space")  # plays
        page.wait_for_timeout(200)
        page.mouse.move(*place(page, x + 6, y))
        page.mouse.down()
        frame = int(page.locator("#goto").input_value())
        page.wait_for_timeout(300)
        with page.expect_response(re.compile("/clicks$")):
            page.mouse.up()
        saved(page)
        assert sorted(key["frame"] for key in keys_of(page)) == sorted({0, frame})
        page.keyboard.press("o")
        saved(page)
        assert not prevents(page, key="1", ctrlKey=True)
        assert not prevents(page, key="ArrowLeft", altKey=True)
        page.wait_for_selector("#objects li:nth-child(2)[aria-current=true]")
        page.keyboard.press("1")
        page.wait_for_selector("#objects li:nth-child(1)[aria-current=true]")
        page.keyboard.press("End")
        at_frame(page, NUM_FRAMES - 1)
        page.keyboard.press("Control+z")
        shows(page, "#toast", "Undone: new object.")
        page.keyboard.press("Control+z")
        shows(page, "#toast", f"Undone: mark in frame {frame}.")
        at_frame(page, frame)
        page.keyboard.press("Control+Shift+z")
        shows(page, "#toast", f"Redone: mark in frame {frame}.")
        page.keyboard.press("b")
        page.locator("#size").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#size").input_value() == "13"
        at_frame(page, frame)
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("End")
        at_frame(page, NUM_FRAMES - 1)
        before = len(keys_of(page))
        page.keyboard.press("y")
        page.mouse.click(*place(page, x, y))
        page.wait_for_selector("#picture-dialog[open]")
        close_dialog(page)
        assert len(keys_of(page)) == before, "to ask why is not to paint"
        page.evaluate("Object.defineProperty(window, 'devicePixelRatio', { value: 2 })")  # as on another monitor
        page.mouse.move(*place(page, x, y))
        page.wait_for_timeout(100)
        assert page.evaluate("(({ width, clientWidth }) => width === 2 * clientWidth)(document.querySelector('#view'))")


SOCKETS = """const Plain = WebSocket; window.sockets = [];
    window.WebSocket = class extends Plain { constructor(...more) { super(...more); sockets.push(this); } };"""


def test_a_pass_is_told_of_from_its_beginning_to_its_end_and_shows_its_masks_where_it_comes_by(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, script=SOCKETS) as page:
        told = {"type": "job", "kind": "track", "running": True, "number": 1, "start": 2, "step": 1, "last": 20}

        def tell(**more):
            data = {**told, **more}
            page.evaluate("(data) => sockets.at(-1).onmessage({ data: JSON.stringify(data) })", data)
            page.wait_for_timeout(150)

        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        at_frame(page, 5)
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/labels/" in request.url else None)
        tell(frame=None, passing=301)
        shows(page, "#speed", "on the way there: frame 301")
        tell(frame=4, fps=8.0)
        assert asked == []
        tell(frame=7, fps=8.0)
        assert [url.rsplit("/", 1)[1] for url in asked] == ["5"]
        tell(running=False, frame=7, error="the disk is full; make room")
        shows(page, "#toast", "The disk is full; make room")
        page.wait_for_timeout(6500)
        assert page.locator("#toast").is_visible(), "nobody may be looking"
        page.keyboard.press("Escape")
        page.wait_for_selector("#toast", state="hidden")


def test_an_older_state_that_comes_late_is_not_shown_and_that_of_a_studio_begun_anew_is(tmp_path):
    clip = write_clip(tmp_path / "clip")
    again = """([state, lost]) => { const socket = sockets.at(-1);
        if (lost) socket.onclose();
        socket.onmessage({ data: JSON.stringify(state) });
        return document.querySelectorAll('#objects li').length; }"""
    with (
        running(clip, projects=tmp_path / "projects") as studio,
        browsing(studio, script=SOCKETS) as page,
        studio.client() as client,
    ):
        older = client.get("/api/projects/clip").json()
        page.keyboard.press("o")
        page.wait_for_selector("#objects li")
        saved(page)
        assert page.evaluate(again, [older, False]) == 1
        assert page.evaluate(again, [older, True]) == 0
        page.wait_for_selector("#objects li")


def test_what_nobody_answered_is_kept_in_view_asked_for_before_leaving_and_sent_again(tmp_path):
    projects, asked = tmp_path / "projects", []
    with running(write_clip(tmp_path / "clip"), projects=projects) as studio:
        with browsing(studio, refused=True) as page:
            page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
            take_a_brush(page)
            labels = Held(page, "**/labels/0")
            page.keyboard.press("o")  # with which the masks are asked for anew
            labels.wait()
            page.route("**/masks*", lambda route: route.abort())
            drag(page, 20, 20, 20, 20)
            shows(page, "#saved", "Not saved")
            labels.end()
            page.wait_for_timeout(500)
            drag(page, 70, 50, 70, 50)
            shows(page, "#saved", "Not saved")
            page.evaluate("setTimeout(() => location.reload())")
            page.wait_for_timeout(500)
            assert asked == ["beforeunload"]
            page.unroute("**/masks*")
            with page.expect_response(re.compile("/masks")):
                page.keyboard.press("o")
            saved(page)
        assert studio.end() == 0
    kept = stored(studio, 0, projects)
    assert [int(kept[y, x]) for x, y in ((20, 20), (70, 50))] == [2, 2]


def test_a_stroke_that_nobody_answered_is_sent_before_a_click_that_goes_onto_it(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        take_a_brush(page)
        lost = re.compile(r"/(masks|clicks)")
        tried = []
        page.route(lost, lambda route: (tried.append(route), route.abort()))
        drag(page, 20, 20, 20, 20)
        shows(page, "#saved", "Not saved")
        page.keyboard.press("c")
        x, y = middle(masks[0, 0])
        for count, right in ((2, 0), (3, 6)):
            page.mouse.click(*place(page, x + right, y))
            until_asked(page, tried, count)
            shows(page, "#saved", "Not saved")
        page.unroute(lost)
        sent = []
        page.on("request", lambda request: sent.extend(re.findall(r"/(masks|clicks)", request.url)))
        page.keyboard.press("o")
        saved(page)
        assert sent == ["masks", "clicks", "clicks"]


def test_a_picture_of_the_memory_that_nobody_waits_for_any_more_says_nothing(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        take_a_brush(page)
        dab(page, 40, 40)
        saved(page)
        asked = []
        page.route("**/memory*", lambda route: asked.append(route))
        stopped = {"status": 400, "json": {"error": "tracking up to frame 0 was stopped"}}
        for count in (1, 2):
            page.keyboard.press("k")
            until_asked(page, asked, count)
        asked[0].fulfill(**stopped)  # as the server does where another one is asked for
        page.wait_for_timeout(300)
        shows(page, "#saved", "Drawing … (Esc stops)")
        page.keyboard.press("Escape")
        saved(page)
        asked[1].fulfill(**stopped)
        page.wait_for_timeout(300)
        assert not page.locator("#toast").is_visible()
        page.keyboard.press("k")
        until_asked(page, asked, 3)
        asked[2].fulfill(path=clip / "00000.png")
        page.wait_for_selector("#picture-dialog[open]")


def test_names_on_the_timeline_and_the_heading_of_the_settings_do_not_move_the_video(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        for _ in range(2):
            page.keyboard.press("o")
            saved(page)
        page.keyboard.press("End")
        at_frame(page, NUM_FRAMES - 1)
        page.locator("#timeline").click(position={"x": 50, "y": 35})
        page.wait_for_selector("#objects li:nth-child(1)[aria-current=true]")
        page.wait_for_timeout(300)
        at_frame(page, NUM_FRAMES - 1)
        page.keyboard.press("Home")
        at_frame(page, 0)
        page.locator("summary").focus()
        for key, is_open in (("Enter", True), ("Space", False)):
            page.keyboard.press(key)
            page.wait_for_timeout(200)
            assert page.locator("details").evaluate("(details) => details.open") == is_open
        at_frame(page, 0)


def test_a_page_that_left_a_video_while_it_was_not_connected_hears_no_more_of_it(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        connections = page.evaluate(
            """async () => { const { Api } = await import('/static/api.js'), made = [];
            window.WebSocket = class { constructor() { made.push(this); } close() {} };
            const leave = new Api('clip').listen(() => {});
            made[0].onclose();
            leave();
            await new Promise((done) => setTimeout(done, 500));
            return made.length; }"""
        )
        assert connections == 1


def test_clicks_that_wait_stay_in_the_video_that_they_were_made_in(tmp_path, masks):
    clips, projects = [write_clip(tmp_path / name / "frames") for name in ("aaa", "bbb")], tmp_path / "projects"
    clips = [clip.rename(clip.parent / f"clip-{clip.parent.name}") for clip in clips]
    with running(*clips, projects=projects) as studio, browsing(studio) as page:
        click(page, *middle(masks[0, 0]))
        for step in range(6):
            page.mouse.click(*place(page, *(int(part) + 3 * step for part in middle(masks[0, 0]))))
        page.evaluate("document.querySelector('#open').click()")
        other = "clip-aaa" if studio.project == "clip-bbb" else "clip-bbb"
        page.locator("#projects button", has_text=other).click()
        shows(page, "#video-name", other)
        saved(page)
        assert keys_of(page, other) == []
        assert len(keys_of(page, studio.project)) == 1


def choose(page, project):
    page.keyboard.press("Control+o")
    page.locator("#projects button", has_text=project).click()


def test_the_video_that_was_chosen_last_is_opened_and_a_click_made_meanwhile_stays_in_the_one_it_was_made_in(
    tmp_path, masks
):
    clips = [write_clip(tmp_path / name) for name in ("first", "second")]
    with running(*clips, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        here, other = studio.project, "first" if studio.project == "second" else "second"
        slow = Held(page, f"**/api/projects/{other}")
        choose(page, other)
        slow.wait()
        made = Held(page, "**/actions")
        page.mouse.click(*place(page, *middle(masks[0, 0])))
        made.wait()
        slow.end()
        shows(page, "#video-name", other)
        with page.expect_response(re.compile("/clicks$")):
            made.end()
        saved(page)
        assert [key["frame"] for key in keys_of(page, here)] == [0]
        assert keys_of(page, other) == []
        slow = Held(page, f"**/api/projects/{here}")
        choose(page, here)
        slow.wait()
        choose(page, other)
        saved(page)
        slow.end()
        page.wait_for_timeout(300)
        shows(page, "#video-name", other)


def test_what_is_drawn_is_of_the_object_that_it_was_begun_with(tmp_path, masks):
    clip, actions = write_clip(tmp_path / "clip"), "/api/projects/clip/actions"
    with (
        running(clip, projects=tmp_path / "projects") as studio,
        browsing(studio, refused=True) as page,
        studio.client() as client,
    ):
        lost = re.compile(r"/projects/clip(/actions|/clicks)?$")
        page.route(lost, lambda route: route.abort())
        page.mouse.click(*place(page, *middle(masks[0, 0])))
        shows(page, "#saved", "Not saved")
        page.unroute(lost)
        client.post(actions, json={"do": "settings", "frames": 3})  # the page hears that the studio is there again
        saved(page)
        [key] = keys_of(page)
        assert (key["object_id"], len(key["how"]["points"])) == (1, 1)
        take_a_brush(page)
        page.mouse.move(*place(page, 20, 20))
        page.mouse.down()
        client.post(actions, json={"do": "remove_object", "object_id": 2})  # as another page would
        page.wait_for_selector("#objects li:nth-child(2)", state="detached")
        page.mouse.up()
        shows(page, "#toast", re.compile("^Object 2 does not exist"))
        assert keys_of(page) == [key]


def in_view(page, selector, within):
    """Whether an element lies between top and bottom of another one."""
    inner, outer = page.locator(selector).bounding_box(), page.locator(within).bounding_box()
    return outer["y"] <= inner["y"] + 1 and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1


def test_fields_keys_and_lists_do_what_they_say(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.keyboard.press("o")
        saved(page)
        page.keyboard.press("v")
        page.get_by_role("button", name="Delete Object 1").click()
        saved(page)
        click(page, *middle(masks[0, 0]))
        click(page, SIZE[1] - 0.54, middle(masks[0, 0])[1], button="right")  # on the last of its pixels
        assert page.get_by_role("button", name="Hide Object 1").count() == 1, "a new object is not hidden"
        name = page.locator("#objects input[type=text]").first
        name.fill("Nobody")
        name.press("Escape")
        assert name.input_value() == "Object 1"
        page.locator("#goto").fill("5")
        page.locator("#goto").press("Enter")
        at_frame(page, 5)
        page.locator("#goto").fill("")
        page.locator("#goto").press("Enter")
        page.wait_for_timeout(300)
        at_frame(page, 5)
        names_frame(page, 5)
        page.locator("#goto").fill("9")
        page.locator("#goto").press("Escape")
        at_frame(page, 5)
        names_frame(page, 5)
        page.locator("#timeline").focus()
        for key, frame in (("ArrowUp", 6), ("PageUp", 16), ("ArrowDown", 15), ("PageDown", 5)):
            page.keyboard.press(key)
            at_frame(page, frame)
        page.evaluate("document.activeElement.blur()")
        for _ in range(13):
            page.keyboard.press("o")
            saved(page)
        for key, row in (("", 14), ("1", 1)):
            if key:
                page.keyboard.press(key)
            page.wait_for_selector(f"#objects li:nth-child({row})[aria-current=true]")
            assert page.locator("#objects [aria-current]").count() == 1
            assert in_view(page, "#objects li.on", "aside.panel")
            page.wait_for_timeout(100)
            assert (page.evaluate("document.querySelector('#rows').scrollTop") > 0) == (row == 14)
        assert page.evaluate(
            "fetch('/api/projects/clip').then((answer) => answer.json()).then((state) => state.objects[0].name)"
        ) == ("Object 1")


def test_the_page_asks_before_it_is_left_while_something_is_not_saved(tmp_path, masks):
    clip, held, asked = write_clip(tmp_path / "clip"), [], []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        page.route("**/clicks", lambda route: held.append(route))
        page.mouse.click(*place(page, *middle(masks[0, 0])))
        until_asked(page, held)
        page.evaluate("setTimeout(() => location.reload())")
        page.wait_for_timeout(500)
        assert asked == ["beforeunload"]
        held[0].continue_()
        saved(page)
        assert len(keys_of(page)) == 1


def test_no_key_of_playing_or_tracking_ends_an_export_and_all_exports_can_be_had_later(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        click(page, *middle(masks[0, 0]))
        page.evaluate(
            """() => { window.hints = []; const stop = document.querySelector('#stop');
            new MutationObserver(() => { if (!stop.hidden) hints.push(document.querySelector('#hint').textContent); })
            .observe(stop, { attributes: true }); }"""
        )
        page.keyboard.press("Control+e")
        shows(
            page,
            "#untracked",
            f"Object 1 is neither tracked nor marked in {NUM_FRAMES - 1} of {NUM_FRAMES} frames: "
            "it will be missing there.",
        )
        page.get_by_role("radio", name="WebM").check()
        page.get_by_label("Smooth over").select_option("9")
        page.evaluate(
            """async () => { const $ = (id) => document.getElementById(id); $('export-start').click();
            $('export-dialog').close();
            while (!$('export-result').querySelector('a') && !$('export-result').textContent.startsWith('Stopped')) {
            document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
            $('play').click();
            await new Promise((done) => setTimeout(done, 5)); } }"""
        )
        shows(page, "#export-result a", "cutout.webm")
        shows(page, "#toast", "The export is ready: Ctrl+E.")
        track(page, "t")
        assert set(page.evaluate("hints")) == {"Tracking: Space pauses"}
        page.reload()
        page.wait_for_selector("#welcome", state="hidden")
        saved(page)
        page.keyboard.press("Control+e")
        with page.expect_download() as download:
            page.get_by_role("link", name="webm.zip").click()
        assert download.value.suggested_filename == "clip-webm.zip"


def write_film(path):
    """The clip as a video with a tone."""
    with av.open(str(path), "w") as target:
        video, audio = target.add_stream("libx264", rate=25), target.add_stream("aac", rate=48000, layout="mono")
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        for image in drawn()[0]:
            target.mux(video.encode(av.VideoFrame.from_ndarray(image.permute(1, 2, 0).numpy())))
        tone = np.sin(np.arange(48000 * NUM_FRAMES // 25)[None] / 20).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
        frame.sample_rate = 48000
        target.mux([*video.encode(None), *audio.encode(frame), *audio.encode(None)])
    return path


def test_what_an_export_warned_of_stands_beside_it(tmp_path, masks):
    film = write_film(tmp_path / "film.mp4")
    with running(film, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        click(page, *middle(masks[0, 0]))
        page.keyboard.press("Control+e")
        assert export(page, "Video for editors", "WebM") == "cutout.webm"
        shows(page, "#export-result .warned", re.compile("^film.mp4: its sound is re-encoded as Opus"))


@pytest.mark.parametrize(
    ("width", "height", "touch", "scheme"),
    [
        (1280, 720, False, "dark"),
        (800, 600, False, "light"),
        (1180, 820, True, "light"),
        (390, 844, True, "dark"),
        (640, 360, True, "light"),
    ],
)
def test_everything_is_within_the_window_and_nothing_scrolls_sideways(tmp_path, masks, width, height, touch, scheme):
    with (
        running(write_film(tmp_path / "film.mp4"), projects=tmp_path / "projects") as studio,
        browsing(studio, color_scheme=scheme, has_touch=touch) as page,
    ):
        page.set_viewport_size({"width": width, "height": height})
        shows(page, "#clock", f"/ {NUM_FRAMES - 1} · 00:00")
        page.evaluate("document.querySelector('#clock').textContent = '/ 215999 · 01:59:59'")  # of a long video
        page.evaluate("document.querySelector('#speed').textContent = 'Exporting 100 %'")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for part in ("header", ".tools", ".transport"):
            for button in page.locator(f"{part} button").all():
                if button.is_visible():
                    box = button.bounding_box()
                    assert box["x"] >= 0
                    assert box["x"] + box["width"] <= width
                    scrolls = part == ".tools" and height < 400
                    assert box["y"] + box["height"] <= height or scrolls
        click(page, *middle(masks[0, 0]))
        removes, go_on = ("− removes", "tap Track") if touch else ("Right-click removes", "press T to track")
        shows(page, "#hint", f"{removes}; when the mask fits, {go_on}")


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: npm install --no-save axe-core, as .ci/run does")
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_keeps_people_out_by_the_measure_of_axe(tmp_path, scheme, masks):
    with (
        running(write_clip(tmp_path / "clip"), projects=tmp_path / "projects") as studio,
        browsing(studio, color_scheme=scheme, bypass_csp=True) as page,
    ):
        click(page, *middle(masks[0, 0]))
        page.add_script_tag(path=str(AXE))
        for key in (None, "?", "Control+e", "Control+o"):
            if key:
                page.keyboard.press(key)
                page.wait_for_timeout(300)
            found = page.evaluate("async () => (await axe.run()).violations")
            serious = [
                (fault["id"], [node["html"][:120] for node in fault["nodes"]])
                for fault in found
                if fault["impact"] in ("serious", "critical")
            ]
            assert serious == []
            page.keyboard.press("Escape")


def test_what_is_drawn_right_after_a_new_object_was_asked_for_belongs_to_it(tmp_path, masks):
    clip, (x, y) = write_clip(tmp_path / "clip"), middle(masks[0, 1])
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        made = Held(page, "**/actions")
        page.mouse.click(*place(page, *middle(masks[0, 0])))  # makes the first one
        for right in (0, 4):
            page.keyboard.press("o")
            made.wait()
            page.mouse.click(*place(page, x + right, y))
        made.end()
        saved(page)
        page.wait_for_selector("#objects li:nth-child(3)[aria-current=true]")
        made = Held(page, "**/actions")
        page.keyboard.press("o")
        made.wait()
        page.keyboard.press("p")
        for corner in ((10, 10), (40, 10), (40, 40)):
            page.mouse.click(*place(page, *corner))
        page.keyboard.press("Enter")
        with page.expect_response(re.compile("/masks")):
            made.end()
        saved(page)
        made = Held(page, "**/actions")
        page.keyboard.press("o")
        made.wait()
        page.keyboard.press("x")
        drag(page, x - 12, y - 12, x + 12, y + 12)
        page.keyboard.press("c")
        page.mouse.click(*place(page, x, y))
        made.end()
        saved(page)
        keys = keys_of(page)
        assert [key["object_id"] for key in keys] == [1, 2, 3, 4, 5]
        first = [key["how"]["points"][0][0] for key in keys[:3]]
        assert first == pytest.approx([middle(masks[0, 0])[0], x, x + 4], abs=1)
        assert [len(key["how"].get("points", [])) for key in keys] == [1, 1, 1, 0, 1]
        assert keys[3]["how"] == {"tool": "polygon"}
        assert keys[4]["how"]["box"], "nor does a click forget the box before it"


def test_each_press_of_the_key_makes_an_object_and_what_is_drawn_after_it_is_of_that(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        made = Held(page, "**/actions")
        for animal in (0, 1):
            page.keyboard.press("o")
            page.mouse.click(*place(page, *middle(masks[0, animal])))
        made.wait()
        made.end()
        page.wait_for_selector("#objects li:nth-child(2)[aria-current=true]")
        saved(page)
        first = [(key["object_id"], key["how"]["points"][0][0]) for key in keys_of(page)]
        assert first == [(row + 1, pytest.approx(middle(masks[0, row])[0], abs=1)) for row in (0, 1)]


def test_a_click_that_waits_for_a_new_object_makes_it_if_nobody_answered(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        click(page, *middle(masks[0, 0]))
        [first] = keys_of(page)
        asked = []
        page.route("**/actions", lambda route: asked.append(route))
        page.keyboard.press("o")
        until_asked(page, asked)
        page.mouse.click(*place(page, *middle(masks[0, 1])))
        page.unroute("**/actions")
        asked[0].abort()
        page.wait_for_selector("#objects li:nth-child(2)[aria-current=true]")
        saved(page)
        [same, second] = keys_of(page)
        assert same == first
        assert (second["object_id"], len(second["how"]["points"])) == (2, 1)


def test_what_is_drawn_while_a_mark_is_taken_back_does_not_bring_it_back(tmp_path, masks):
    clip, projects, (x, y) = write_clip(tmp_path / "clip"), tmp_path / "projects", middle(masks[0, 0])
    with running(clip, projects=projects) as studio:
        with browsing(studio) as page:
            click(page, x, y)
            click(page, *middle(masks[0, 1]))
            on_the_way = []
            for key, right, kept in (("Control+z", 4, [x, x + 4]), ("Delete", 8, [x + 8])):
                page.route("**/actions", lambda route: on_the_way.append(route))
                page.keyboard.press(key)
                until_asked(page, on_the_way)
                page.mouse.click(*place(page, x + right, y))
                with page.expect_response(re.compile("/clicks$")):
                    on_the_way.pop().continue_()
                page.unroute("**/actions")
                saved(page)
                [mark] = keys_of(page)
                assert [point[0] for point in mark["how"]["points"]] == pytest.approx(kept, abs=1)
            take_a_brush(page)
            dab(page, 20, 20)
            saved(page)
            labels = Held(page, "**/labels/0")
            page.keyboard.press("Control+z")
            labels.wait()
            dab(page, 24, 20)  # over what is still shown
            dab(page, 120, 80)
            labels.end()
            saved(page)
        assert studio.end() == 0
    kept = stored(studio, 0, projects)
    assert [int(kept[y, x]) for x, y in ((9, 20), (24, 20), (120, 80))] == [0, 2, 2]


def test_a_click_stays_in_its_frame_though_what_is_undone_meanwhile_leads_to_another(tmp_path, masks):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        click(page, *middle(masks[0, 0]))
        page.keyboard.press("End")
        at_frame(page, NUM_FRAMES - 1)
        undone = Held(page, "**/actions")
        page.keyboard.press("Control+z")
        undone.wait()
        page.mouse.click(*place(page, *middle(masks[-1, 1])))
        with page.expect_response(re.compile("/clicks$")):
            undone.end()
        at_frame(page, 0)
        saved(page)
        [key] = keys_of(page)
        assert (key["frame"], len(key["how"]["points"])) == (NUM_FRAMES - 1, 1)


def test_before_its_first_frame_is_shown_a_video_is_not_clicked_on_and_the_frame_comes_all_the_same(tmp_path):
    clip, clicked = write_clip(tmp_path / "clip"), []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, script=SOCKETS) as page:
        frames = Held(page, "**/frames/*")
        page.reload()
        page.wait_for_function("() => document.title.startsWith('clip')")
        frames.wait()
        page.on("request", lambda request: clicked.append(request) if request.url.endswith("/clicks") else None)
        told = {"type": "job", "kind": "track", "running": True, "number": 1, "start": 0, "step": 1, "frame": 5}
        page.evaluate("(data) => sockets.at(-1).onmessage({ data: JSON.stringify(data) })", told)
        page.mouse.click(*place(page, 60, 50))
        shows(page, "#toast", "There is no picture to draw on yet.")
        page.keyboard.press("f")
        page.keyboard.press("Enter")
        shows(page, "#saved", "Opening …")
        frames.end()
        at_frame(page, 5)
        saved(page)
        page.wait_for_function(
            """() => { const view = document.querySelector('#view'), { width, height } = view;
            return view.getContext('2d').getImageData(width / 2, height / 2, 1, 1).data[3] === 255; }"""
        )
        assert clicked == []


def test_the_fields_of_the_settings_take_what_python_takes(tmp_path):
    clip = write_clip(tmp_path / "clip")
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.locator("summary").click()
        for field, values in (("#short-side", (1080, 540, 360)), ("#budget", (1000, 2.25)), ("#every", (1000,))):
            for value in values:
                with page.expect_response(re.compile("/actions$")):
                    page.locator(field).fill(str(value))
                    page.keyboard.press("Enter")
                saved(page)
        asked = "fetch('/api/projects/clip').then((answer) => answer.json()).then((state) => state.settings)"
        settings = page.evaluate(asked)
        assert [settings[name] for name in ("size", "frames", "write_every")] == [360, 2.25, 1000]


def test_at_the_last_frame_the_next_doubtful_one_and_playing_begin_again_from_the_start(tmp_path):
    clip, asked = write_clip(tmp_path / "clip"), []
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio) as page:
        page.route("**/timeline?*", lambda route: route.fulfill(json={**route.fetch().json(), "doubtful": [3, 9]}))
        with page.expect_response(re.compile("/timeline")):
            page.keyboard.press("o")  # with which the timeline is asked for anew
        for end, key, frame, side in (("End", "n", 3, "start"), ("Home", "Shift+n", 9, "end")):
            page.keyboard.press(end)
            page.keyboard.press(key)
            at_frame(page, frame)
            shows(page, "#toast", f"From the {side} again.")
        page.keyboard.press("End")
        at_frame(page, NUM_FRAMES - 1)
        page.on("request", lambda request: asked.extend(re.findall(r"/labels/(\d+)", request.url)))
        page.keyboard.press("Space")
        until_asked(page, asked, NUM_FRAMES)
        assert asked == [str(index) for index in range(NUM_FRAMES)]
        page.wait_for_selector("#play[aria-label=Play]")


def until_painted(page):
    """Waits until what the page has asked to be painted so far is painted."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_what_is_refused_is_taken_back_and_leaves_nothing_unsaved(tmp_path, masks):
    clip, (x, y) = write_clip(tmp_path / "clip"), middle(masks[0, 0])
    with running(clip, projects=tmp_path / "projects") as studio, browsing(studio, refused=True) as page:
        take_a_brush(page)
        until_painted(page)
        before = shown(page)
        page.keyboard.press("c")
        asked = refuse(page, re.compile("/(clicks|masks.*|actions)$"))
        page.mouse.click(*place(page, *middle(masks[0, 1])))
        until_asked(page, asked)
        shows(page, "#toast", "It is damaged; restore it")
        saved(page)
        page.keyboard.press("b")
        drag(page, 20, 20, 20, 20)
        until_asked(page, asked, 2)
        shows(page, "#toast", "It is damaged; restore it")
        saved(page)
        page.mouse.move(0, 0)
        deadline = time.monotonic() + 120
        while shown(page) != before:
            assert time.monotonic() < deadline
            until_painted(page)
        page.unroute_all()
        page.keyboard.press("c")
        click(page, x, y)
        [key] = keys_of(page)
        assert [point[0] for point in key["how"]["points"]] == pytest.approx([x], abs=1)
