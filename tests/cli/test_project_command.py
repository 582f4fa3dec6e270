import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image
from refusals import refusal
from typer.testing import CliRunner

import mnemask as mm
from mnemask.cli import app
from mnemask.errors import FrameError
from mnemask.io.lock import OutputLock
from mnemask.io.visualize import davis_palette
from mnemask.io.written import Written
from mnemask.model.checkpoints import save_model

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def session(tmp_path_factory, tiny_model):
    """A project in which an object was marked in the middle and tracked both ways."""
    folder = tmp_path_factory.mktemp("session")
    frames, masks = drawn_clip(NUM_FRAMES, 32, 48)
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / f"frames/{index:03d}.png")
    weights = folder / "tiny.safetensors"
    save_model(tiny_model, weights, dtype=torch.float32)
    with mm.Project.create(folder / "project", folder / "frames", model=str(weights), size=32) as project:
        project.add_object("disc")
        project.set_key(4, 1, masks[4, 0])
        project.track(4)
        project.track(4, "backward")
        labels = [project.labels(index) for index in range(NUM_FRAMES)]
    return folder / "project", labels


def exit_code(*line):
    return mnemask(*line)[0]


@pytest.mark.parametrize("more", [(), ("--stored",)])
def test_a_session_is_written_as_it_was_repeated_or_as_it_is_stored(tmp_path, session, more):
    folder, labels = session
    assert exit_code("project", folder, "-o", tmp_path / "out", "--overlay", *more) == 0
    assert (tmp_path / "out/overlay.mp4").exists()
    files = sorted((tmp_path / "out/masks").glob("*.png"))
    assert [file.stem for file in files] == [f"{index:03d}" for index in range(NUM_FRAMES)]
    for file, expected in zip(files, labels, strict=True):
        with Image.open(file) as image:
            assert torch.equal(torch.tensor(list(image.tobytes())).reshape(32, 48), expected.long())


def test_pictures_of_a_folder_are_written_at_the_rate_that_is_given(tmp_path, session):
    folder, _ = session
    line = ["project", folder, "--stored", "--format", "matte"]
    for number, (rate, expected) in enumerate(((["--fps", "23.976"], Fraction(24000, 1001)), ([], 25))):
        assert exit_code(*line, *rate, "-o", tmp_path / str(number)) == 0
        with av.open(str(tmp_path / str(number) / "masks/matte.mp4")) as container:
            assert container.streams.video[0].average_rate == expected


def test_the_repeated_project_can_be_kept(tmp_path, session):
    folder, labels = session
    assert exit_code("project", folder, "-o", tmp_path / "out", "--keep", tmp_path / "kept", "--format", "ffv1") == 0
    with mm.Project(tmp_path / "kept") as kept:
        assert all(torch.equal(kept.labels(index), expected) for index, expected in enumerate(labels))


def test_a_mask_in_the_middle_is_tracked_both_ways_and_a_later_one_corrects(tmp_path, session):
    folder, labels = session
    Image.fromarray((labels[4] > 0).byte().numpy() * 255).save(tmp_path / "middle.png")
    Image.fromarray((labels[4] == 0).byte().numpy() * 255).save(tmp_path / "other.png")
    weights = folder.parent / "tiny.safetensors"
    line = ["project", tmp_path / "made", "-o", tmp_path / "out"]
    made = ["--video", folder.parent / "frames", "--size", 32, "--model", weights]
    assert exit_code(*line, *made, "--at", f"4:1={tmp_path / 'middle.png'}") == 0
    with mm.Project(tmp_path / "made") as project:
        assert all(torch.equal(project.labels(index), expected) for index, expected in enumerate(labels))
    assert exit_code(*line, "--at", f"6={tmp_path / 'other.png'}") == 2, "an export is not replaced unasked"
    with mm.Project(tmp_path / "made") as project:
        assert project.state.key_frames() == [4]
    assert exit_code(*line, "--at", f"6={tmp_path / 'other.png'}", "--overwrite") == 0
    with mm.Project(tmp_path / "made") as project:
        assert project.state.key_frames() == [4, 6]
        assert torch.equal(project.labels(6) == 1, labels[4] == 0)
        assert all(torch.equal(project.labels(index), labels[index]) for index in range(5))


def test_an_object_that_is_first_marked_later_is_tracked_backwards_from_there(tmp_path, session):
    folder = session[0].parent
    line = ["project", tmp_path / "made", "-o", tmp_path / "out", "--video", folder / "frames"]
    line += ["--size", 32, "--model", folder / "tiny.safetensors"]
    for number, frame in ((1, 2), (2, 5)):
        shown = torch.zeros(32, 48, dtype=torch.uint8)
        shown[4:28, 24 * number - 20 : 24 * number - 4] = 255
        Image.fromarray(shown.numpy()).save(tmp_path / f"{number}.png")
        line += ["--at", f"{frame}:{number}={tmp_path / f'{number}.png'}"]
    assert exit_code(*line) == 0
    with mm.Project(tmp_path / "made") as project:
        passes = [line for line in project.actions if line["do"] == "track"]
        assert [(each["start"], each["direction"], each["objects"]) for each in passes] == [
            (2, "forward", None),
            (2, "backward", [1]),
            (5, "backward", [2]),
        ]
        assert all((project.labels(index) == 2).any() for index in range(NUM_FRAMES))


def test_what_cannot_be_repeated_is_refused_and_nothing_is_replaced(tmp_path, session):
    folder, _ = session
    assert exit_code("project", tmp_path / "nothing", "-o", tmp_path / "out") == 2
    assert exit_code("project", folder, "-o", tmp_path / "out", "--stored", "--keep", tmp_path / "kept") == 2
    (tmp_path / "taken/masks").mkdir(parents=True)
    (tmp_path / "taken/masks/000.png").write_bytes(b"mine")
    assert exit_code("project", folder, "-o", tmp_path / "taken", "--stored") == 2
    assert (tmp_path / "taken/masks/000.png").read_bytes() == b"mine"


def test_what_is_in_the_way_is_refused_before_anything_is_marked_or_computed(tmp_path, session, monkeypatch):
    project = shutil.copytree(session[0], tmp_path / "project")
    before = journal_of(project)
    monkeypatch.setattr(mm.Project, "track", None)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    Image.fromarray(np.full((32, 48), 255, np.uint8)).save(tmp_path / "all.png")
    (tmp_path / "afile").write_bytes(b"mine")
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen/overlay.mp4").write_bytes(b"mine")
    ways = [(), ("--at", f"6:1={tmp_path / 'all.png'}"), ("--mask", tmp_path / "all")]
    (tmp_path / "all").mkdir()
    shutil.copy(tmp_path / "all.png", tmp_path / "all/006.png")
    new = ("project", tmp_path / "new", "--video", session[0].parent / "frames", *ways[1])
    for line in (new, *(("project", project, *way) for way in ways)):
        for wrong in (
            ("-o", tmp_path / "afile"),
            ("-o", tmp_path / "seen", "--overlay", "--overwrite"),
            ("-o", tmp_path / "out", "--object", "9=camel"),
            ("-o", tmp_path / "out", "--format", "rle"),
            ("-o", line[1], "--overwrite"),
        ):
            if line is not new or wrong[1] != line[1]:
                assert exit_code(*line, *wrong) == 2, (line, wrong)
    assert journal_of(project) == before
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["overlay.mp4"]


def journal_of(folder):
    return (folder / "actions.jsonl").read_bytes()


def test_an_export_takes_no_place_of_a_run_or_of_a_mask_that_was_changed(tmp_path, session):
    line = ("project", session[0], "--stored", "-o")
    for name in ("killed", "complete"):
        (tmp_path / name / "masks").mkdir(parents=True)
        written = Written(tmp_path / name)
        written.write(tmp_path / name / "masks/000.png", b"of a run")
        if name == "killed":
            written.claim(tmp_path / name / "checkpoint")
        else:
            written.write(tmp_path / name / "report.json", "{}")
        assert exit_code(*line, tmp_path / name, "--overwrite") == 2
        assert (tmp_path / name / "masks/000.png").read_bytes() == b"of a run"
    lock = OutputLock(tmp_path / "at_work")
    with ThreadPoolExecutor(1) as another:
        another.submit(lock.__enter__).result()
        assert exit_code(*line, tmp_path / "at_work") == 2
        another.submit(lock.__exit__).result()
    assert exit_code(*line, tmp_path / "out") == 0
    (tmp_path / "out/masks/003.png").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out/masks").iterdir()}
    assert exit_code(*line, tmp_path / "out", "--overwrite") == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/masks").iterdir()} == before
    (tmp_path / "out/masks/003.png").unlink()
    assert exit_code(*line, tmp_path / "out", "--overwrite") == 0


def test_a_project_goes_on_with_its_own_video_and_settings_alone(tmp_path, session):
    project = shutil.copytree(session[0], tmp_path / "project")
    frames = session[0].parent / "frames"
    other = shutil.copytree(frames, tmp_path / "other")
    with Image.open(other / "003.png") as image:
        image.rotate(180).save(other / "003.png", compress_level=0)
    before = journal_of(project)
    Image.fromarray(np.full((32, 48), 255, np.uint8)).save(tmp_path / "all.png")
    line = ("project", project, "-o", tmp_path / "out", "--at", f"6:1={tmp_path / 'all.png'}")
    for wrong in (("--video", other), ("--policy", "lfu"), ("--size", 64), ("--frames", 4), ("--model", "compact")):
        assert exit_code(*line, *wrong) == 2, wrong
    assert journal_of(project) == before
    assert exit_code(*line, "--video", frames, "--size", 32) == 0


def test_a_frame_that_takes_no_mark_is_refused_before_anything_is_made_or_marked(tmp_path, session):
    project, frames = shutil.copytree(session[0], tmp_path / "project"), session[0].parent / "frames"
    Image.fromarray(np.full((32, 48), 255, np.uint8)).save(tmp_path / "all.png")
    with mm.Project(project) as opened:
        opened.accept(6, 6)
    before = journal_of(project)
    good = ("--at", f"5:1={tmp_path / 'all.png'}")
    for at, said in ((6, "frame 6.*accepted"), (NUM_FRAMES, f"frame {NUM_FRAMES}.*0 to {NUM_FRAMES - 1}")):
        line = ("project", project, "-o", tmp_path / "out", *good, "--at", f"{at}:1={tmp_path / 'all.png'}")
        code, text = mnemask(*line)
        assert (code, bool(re.search(said, " ".join(text.split())))) == (2, True), text
    assert journal_of(project) == before
    new = ("project", tmp_path / "new", "--video", frames, "-o", tmp_path / "out")
    assert exit_code(*new, *good, "--at", f"{NUM_FRAMES}:1={tmp_path / 'all.png'}") == 2
    assert not (tmp_path / "new").exists()


def test_a_project_whose_video_moved_is_told_where_it_is_and_follows_it(tmp_path, session):
    project, moved = shutil.copytree(session[0], tmp_path / "project"), tmp_path / "moved"
    about = json.loads((project / "project.json").read_text())
    (project / "project.json").write_text(json.dumps({**about, "source": str(tmp_path / "gone")}))
    shutil.copytree(session[0].parent / "frames", moved)
    Image.fromarray(np.full((32, 48), 255, np.uint8)).save(tmp_path / "all.png")
    at = ("--at", f"6:1={tmp_path / 'all.png'}")
    for how in ((), ("--stored",), at):
        code, text = mnemask("project", project, "-o", tmp_path / "out", *how)
        assert (code, "no longer at" in text, "--video" in text) == (2, True, True), text
    other = shutil.copytree(moved, tmp_path / "other")
    (other / "003.png").unlink()
    assert exit_code("project", project, "-o", tmp_path / "out", "--stored", "--video", other) == 2
    assert exit_code("project", project, "-o", tmp_path / "out", "--stored", "--video", moved) == 0
    assert exit_code("project", project, "-o", tmp_path / "out", "--overwrite", *at) == 0, "it has been followed"


def test_a_project_that_is_given_for_a_video_is_refused_with_the_command_for_it(session):
    with refusal(FrameError, "mnemask project"), mm.VideoReader(session[0]):
        pass


def test_a_studio_of_nothing_is_refused(tmp_path):
    assert exit_code("studio", tmp_path / "nothing.mp4", "--no-browser") == 2


def test_a_program_is_told_which_files_were_written(tmp_path, session):
    result = CliRunner().invoke(app, ["project", str(session[0]), "-o", str(tmp_path / "out"), "--stored", "--json"])
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["type"] for line in told][-1:] == ["result"]
    assert told[-1]["command"] == "project"
    assert all(Path(path).exists() for path in told[-1]["files"])
    assert told[-1]["files"]


def test_the_class_of_an_object_is_kept_in_the_project_and_written(tmp_path, session):
    project = shutil.copytree(session[0], tmp_path / "project")
    line = ("project", project, "--stored", "-o", tmp_path / "out", "--format", "rle")
    assert exit_code(*line, "--object", "2=camel") == 2
    assert exit_code(*line, "--object", "1=camel") == 0
    content = json.loads((tmp_path / "out/masks/masks.json").read_text())
    assert [each["name"] for each in content["categories"]] == ["camel"]
    assert {each["attributes"]["name"] for each in content["annotations"]} == {"disc"}


def test_what_another_tool_corrected_comes_back_and_the_rest_stays(tmp_path, session):
    project = shutil.copytree(session[0], tmp_path / "project")
    assert exit_code("export", project, "--to", "labelme", "-o", tmp_path / "labels") == 0
    path = tmp_path / "labels/006.json"
    content = json.loads(path.read_text())
    points = [[3, 4], [20, 4], [20, 18], [3, 18]]
    content["shapes"] = [{"label": "disc", "group_id": 1, "shape_type": "polygon", "points": points}]
    path.write_text(json.dumps(content))
    for _ in range(2):
        assert exit_code("project", project, "--mask", tmp_path / "labels", "-o", tmp_path / "out", "--overwrite") == 0
    with mm.Project(project) as opened:
        assert set(opened.state.keys) == {(4, 1), (6, 1)}
        expected = torch.zeros(32, 48, dtype=torch.bool)
        expected[4:18, 3:20] = True
        assert torch.equal(opened.labels(6) == 1, expected)
        assert torch.equal(opened.labels(2), session[1][2])
    assert exit_code("project", project, "--mask", tmp_path / "labels", "--stored", "-o", tmp_path / "two") == 2


@pytest.mark.parametrize("given", ["mask", "at"])
def test_a_correction_whose_tracking_was_stopped_is_tracked_by_the_next_call(tmp_path, session, monkeypatch, given):
    folder, labels = session
    (tmp_path / "masks").mkdir()
    Image.fromarray((labels[4] > 0).byte().numpy()).save(tmp_path / "masks/004.png")
    how = ("--mask", tmp_path / "masks") if given == "mask" else ("--at", f"4:1={tmp_path / 'masks/004.png'}")
    made = ("--video", folder.parent / "frames", "--size", 32, "--model", folder.parent / "tiny.safetensors", *how)
    track = mm.Project.track

    def stopped(*args, **options):
        raise KeyboardInterrupt

    for _ in range(2):
        monkeypatch.setattr(mm.Project, "track", stopped)
        assert exit_code("project", tmp_path / "made", "-o", tmp_path / "out", *made) != 0
    monkeypatch.setattr(mm.Project, "track", track)
    assert exit_code("project", tmp_path / "made", "-o", tmp_path / "out", *made) == 0
    with mm.Project(tmp_path / "made") as project:
        assert all(torch.equal(project.labels(index), expected) for index, expected in enumerate(labels))
        passes = [line for line in project.actions if line["do"] == "track"]
    assert exit_code("project", tmp_path / "made", "-o", tmp_path / "again", "--mask", tmp_path / "masks") == 0
    with mm.Project(tmp_path / "made") as project:
        assert [line for line in project.actions if line["do"] == "track"] == passes, "nothing is tracked once more"


def painted(path, *colours):
    """Saves two boxes, one above the other, in colours."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[4:12, 8:24], picture[18:28, 20:40] = colours
    Image.fromarray(picture).save(path)
    return path


PINK, TEAL = (250, 20, 140), (10, 160, 150)


@pytest.mark.parametrize("given", ["mask", "at"])
def test_a_painted_colour_is_one_object_in_every_file(tmp_path, session, given):
    folder = session[0].parent
    (tmp_path / "masks").mkdir()
    files = painted(tmp_path / "masks/002.png", PINK, TEAL), painted(tmp_path / "masks/005.png", TEAL, PINK)
    how = [word for path in files for word in ("--at", f"{int(path.stem)}={path}")]
    how = how if given == "at" else ["--mask", tmp_path / "masks"]
    made = ("--video", folder / "frames", "--size", 32, "--model", folder / "tiny.safetensors", *how)
    assert exit_code("project", tmp_path / "made", "-o", tmp_path / "out", *made) == 0
    with mm.Project(tmp_path / "made") as project:
        pink = int(project.labels(2)[8, 12])
        assert int(project.labels(5)[22, 30]) == pink
        assert int(project.labels(5)[8, 12]) == int(project.labels(2)[22, 30]) == 3 - pink
    white = tmp_path / "white"
    white.mkdir()
    shutil.copy(painted(tmp_path / "white.png", (255,) * 3, (0,) * 3), white / "006.png")
    for unclear in (("--mask", white), ("--at", f"6={white / '006.png'}")):
        code, said = mnemask("project", tmp_path / "made", "-o", tmp_path / "out", "--overwrite", *unclear)
        assert code == 2
        assert "which of the objects 1, 2" in said


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def labelled(picture, *, painted_in=(RED, GREEN), only=(1, 2), palette=None):
    """Saves ids as colours, or as indices of a palette."""
    path, labels = picture
    if palette:
        image = Image.fromarray(np.where(np.isin(labels, only), labels, 0).astype(np.uint8))
        image.putpalette(palette)
    else:
        colours = np.zeros((*labels.shape, 3), np.uint8)
        for object_id in only:
            colours[labels == object_id] = painted_in[object_id - 1]
        image = Image.fromarray(colours)
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return path


@pytest.fixture(scope="module")
def turning(tmp_path_factory):
    """A folder of frames that are upside down from frame 6 on, and the ids in them."""
    folder = tmp_path_factory.mktemp("turning")
    frames, masks = (each.numpy() for each in drawn_clip(12, 64, 96, num_objects=2))
    (folder / "frames").mkdir()
    labels = []
    for index, (frame, (one, two)) in enumerate(zip(frames, masks, strict=True)):
        rows = slice(None, None, 1 if index < 6 else -1)
        Image.fromarray(frame.transpose(1, 2, 0)[rows].copy()).save(folder / f"frames/{index:05d}.png")
        labels.append((2 * one.astype(np.uint8) + two)[rows])  # the second one is higher up, so its colour comes first
    return folder / "frames", labels


def accuracy(project, labels, frame):
    found = project.labels(frame).numpy()
    return [((found == i) & (labels[frame] == i)).sum() / ((found == i) | (labels[frame] == i)).sum() for i in (1, 2)]


def test_a_colour_is_one_object_in_all_commands_on_a_project(tmp_path, turning):
    frames, labels = turning
    both = labelled((tmp_path / "rgb0.png", labels[0]))
    green = labelled((tmp_path / "green6.png", labels[6]), only=[2])
    again = labelled((tmp_path / "rgb6.png", labels[6]))
    line = ("project", tmp_path / "made", "-o", tmp_path / "out", "--overwrite")
    assert exit_code(*line, "--video", frames, "--size", 64, "--at", f"0={both}") == 0
    assert exit_code(*line, "--at", f"6={green}") == 0
    with mm.Project(tmp_path / "made") as project:
        assert set(project.state.keys) == {(0, 1), (0, 2), (6, 2)}
        assert min(accuracy(project, labels, 6)[1], accuracy(project, labels, 7)[1]) > 0.9
    assert exit_code(*line, "--at", f"6={again}") == 0
    with mm.Project(tmp_path / "made") as project:
        assert min(accuracy(project, labels, 6) + accuracy(project, labels, 7)) > 0.9
        project.undo()
        project.clear_key(0, 2)  # a colour is not lost with a key
    new = labelled((tmp_path / "blue8.png", labels[8]), painted_in=(BLUE, GREEN))
    assert exit_code(*line, "--at", f"8={new}") == 0
    with mm.Project(tmp_path / "made") as project:
        assert [project.state.objects[i].painted for i in (1, 2, 3)] == [("#ff0000",), ("#00ff00",), ("#0000ff",)]
        assert set(project.labels(8)[torch.from_numpy(labels[8] == 2)].tolist()) == {2}
        assert set(project.labels(8)[torch.from_numpy(labels[8] == 1)].tolist()) == {3}


def test_a_folder_in_the_colours_of_a_project_corrects_the_same_objects(tmp_path, session):
    folder = session[0].parent
    made = ("--video", folder / "frames", "--size", 32, "--model", folder / "tiny.safetensors")
    line = ("project", tmp_path / "made", "-o", tmp_path / "out", "--overwrite")
    assert exit_code(*line, *made, "--at", f"2={painted(tmp_path / '2.png', PINK, TEAL)}") == 0
    with mm.Project(tmp_path / "made") as project:
        pink, teal = int(project.labels(2)[8, 12]), int(project.labels(2)[22, 30])
    (tmp_path / "masks").mkdir()
    painted(tmp_path / "masks/005.png", TEAL, PINK)
    assert exit_code(*line, "--mask", tmp_path / "masks") == 0
    with mm.Project(tmp_path / "made") as project:
        assert (int(project.labels(5)[8, 12]), int(project.labels(5)[22, 30])) == (teal, pink)
        labels = [project.labels(frame) for frame in range(NUM_FRAMES)]
    # What was exported, turned into RGB by a tool and corrected in one frame.
    (tmp_path / "exported").mkdir()
    for file in (tmp_path / "out/masks").iterdir():
        with Image.open(file) as image:
            picture = np.asarray(image.convert("RGB"))
        Image.fromarray(picture[::-1] if file.stem == "003" else picture).save(tmp_path / "exported" / file.name)
    assert exit_code(*line, "--mask", tmp_path / "exported") == 0
    with mm.Project(tmp_path / "made") as project:
        assert torch.equal(project.labels(3), labels[3].flip(0))


def test_colours_that_may_be_of_an_object_without_one_are_refused(tmp_path, turning):
    frames, labels = turning
    with mm.Project.create(tmp_path / "made", frames, size=64) as project:
        for object_id in (1, 2):
            project.add_object()
            project.set_key(0, object_id, torch.from_numpy(labels[0] == object_id))
    line = ("project", tmp_path / "made", "-o", tmp_path / "out", "--overwrite")
    green = labelled((tmp_path / "masks/00006.png", labels[6]), only=[2])
    before = journal_of(tmp_path / "made")
    for given in (("--at", f"6={green}"), ("--mask", tmp_path / "masks")):
        code, said = mnemask(*line, *given)
        assert code == 2
        assert "#00ff00, but the colours of objects 1, 2 are not known" in said
        assert "--at 6:1=00006.png, or --at 6:3=00006.png for a new one" in said
    assert journal_of(tmp_path / "made") == before
    assert exit_code(*line, "--at", f"6:2={green}") == 0
    davis = davis_palette().tolist()
    exported = labelled((tmp_path / "rgb7.png", labels[7]), painted_in=davis[1:])
    indexed = labelled((tmp_path / "8.png", labels[8]), palette=davis_palette().ravel().tolist())
    assert exit_code(*line, "--at", f"7={exported}", "--at", f"8={indexed}") == 0
    with mm.Project(tmp_path / "made") as project:
        assert set(project.state.objects) == {1, 2}
        assert all((project.labels(frame).numpy() == labels[frame]).all() for frame in (7, 8))


def test_a_palette_that_was_made_for_its_file_alone_exchanges_no_objects(tmp_path, turning):
    frames, labels = turning
    line = ("project", tmp_path / "made", "-o", tmp_path / "out", "--overwrite")
    both = labelled((tmp_path / "rgb0.png", labels[0]))
    assert exit_code(*line, "--video", frames, "--size", 64, "--at", f"0={both}") == 0
    own = labelled((tmp_path / "p6.png", 3 - labels[6]), only=[1], palette=[0, 0, 0, *GREEN])
    code, said = mnemask(*line, "--at", f"6={own}")
    assert code == 2
    assert "#00ff00 as index 1 but the project has it as 2" in said


def test_a_file_of_several_pictures_is_no_mask_of_one_frame(tmp_path, session):
    images = [{"id": i, "file_name": f"{i:03d}.png", "height": 32, "width": 48} for i in (0, 5)]
    shapes = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 20]], "track_id": 1}
        for i in (0, 5)
    ]
    content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    project = shutil.copytree(session[0], tmp_path / "project")
    line = ("project", project, "-o", tmp_path / "out")
    code, said = mnemask(*line, "--at", f"5={tmp_path / 'a.json'}")
    assert code == 2
    assert "2 pictures" in said
    assert "a.json/000" in said
    assert exit_code(*line, "--at", f"5={tmp_path / 'a.json/005'}") == 0
