"""The commands as their user runs them: in a process of their own, on files."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import typer
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image
from typer.testing import CliRunner

import mnemask as mm
from mnemask.cli import app
from mnemask.memory.policies import DEFAULT_POLICY
from mnemask.model.checkpoints import save_model

pytestmark = pytest.mark.precision


@pytest.fixture(scope="session")
def files(tmp_path_factory, tiny_model):
    """A folder with a clip as images, its first mask, and a checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("files")
    frames, masks = drawn_clip(8, num_objects=2, seed=2)
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frames/{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    labels = (masks[0, 0] + 2 * masks[0, 1]).byte().numpy()
    Image.fromarray(labels).save(folder / "first.png")
    Image.fromarray(masks[5, 1].byte().numpy() * 3).save(folder / "late.png")
    corner = np.zeros_like(labels)
    corner[:12, :12] = 255
    Image.fromarray(corner).save(folder / "bw.png")
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def segment(files, out, *arguments):
    return mnemask("segment", files / "frames", "-o", out, "--model", files / "tiny.safetensors", *arguments)


def test_segment_in_a_process_of_its_own(files, tmp_path):
    arguments = ["segment", files / "frames", "--mask", files / "first.png", "--size", "64", "--overlay"]
    arguments += ["-o", tmp_path / "out", "--model", files / "tiny.safetensors"]
    done = subprocess.run(
        [sys.executable, "-m", "mnemask", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "8 frames, objects 1, 2" in done.stdout
    assert len(list((tmp_path / "out/masks").glob("*.png"))) == 8
    assert (tmp_path / "out/overlay.mp4").stat().st_size > 500
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["settings"]["policy"] == DEFAULT_POLICY


@pytest.mark.parametrize(
    ("policy", "name", "file"),
    [
        *((policy, "png", "masks/00007.png") for policy in mm.POLICIES),
        (DEFAULT_POLICY, "rgba", "masks/1/00000.png"),
    ],
)
def test_every_policy_and_format_by_name(files, tmp_path, policy, name, file):
    code, output = segment(
        files, tmp_path, "--mask", files / "first.png", "--size", 64, "--policy", policy, "--format", name
    )
    assert code == 0, output
    assert (tmp_path / file).exists()


def test_budget_top_k_and_write_interval_reach_the_tracker(files, tmp_path):
    first = files / "first.png"
    code, output = segment(
        files, tmp_path, "--mask", first, "--size", 64, "--frames", 3, "--write-every", 1, "--policy", "lfu"
    )
    assert code == 0, output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["most_tokens_held"] == 3 * 4 * 6
    assert report["memory"]["evictions"] == 5 * 4 * 6


@pytest.mark.parametrize(
    ("options", "kmn_sigma"), [((), 0), (("--model", "compact"), 0.2), (("--kmn-sigma", 0.3), 0.3)]
)
def test_the_kmn_sigma_reaches_the_tracker_and_the_report(files, tmp_path, options, kmn_sigma):
    code, output = segment(files, tmp_path, "--mask", files / "first.png", "--size", 64, *options)
    assert code == 0, output
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["kmn_sigma"] == kmn_sigma


def test_an_impossible_kmn_sigma_is_refused(files, tmp_path):
    code, output = segment(files, tmp_path, "--mask", files / "first.png", "--kmn-sigma", 0.001)
    assert code == 2
    assert "kmn_sigma is 0.001" in output
    assert "0.2" in output


def test_objects_that_appear_later(files, tmp_path):
    code, output = segment(
        files, tmp_path, "--mask", files / "first.png", "--at", f"5={files / 'late.png'}", "--size", 64, "--frames", 4
    )
    assert code == 0, output
    assert 3 not in np.unique(Image.open(tmp_path / "masks/00004.png"))
    assert 3 in np.unique(Image.open(tmp_path / "masks/00005.png"))


def test_a_black_and_white_mask_of_a_later_object_under_an_id_of_its_own(files, tmp_path):
    at = f"5:4={files / 'bw.png'}"
    code, output = segment(files, tmp_path, "--mask", files / "first.png", "--at", at, "--size", 64, "--frames", 4)
    assert code == 0, output
    assert 4 not in np.unique(Image.open(tmp_path / "masks/00004.png"))
    assert list(np.unique(Image.open(tmp_path / "masks/00005.png"))) == [0, 1, 2, 4]


def test_a_black_and_white_mask_of_the_first_frame_is_object_1(files, tmp_path):
    at = ("--at", f"0={files / 'bw.png'}", "--at", f"0:2={files / 'late.png'}")
    code, output = segment(files, tmp_path, *at, "--size", 64)
    assert code == 0, output
    assert list(np.unique(Image.open(tmp_path / "masks/00000.png"))) == [0, 1, 2]


def test_a_box_instead_of_a_mask(files, tmp_path):
    rows, columns = np.nonzero(np.array(Image.open(files / "first.png")) == 2)
    x, y = columns.min() - 2, rows.min() - 2
    box = f"{x},{y},{np.ptp(columns) + 5},{np.ptp(rows) + 5}"
    code, output = segment(files, tmp_path, "--box", box, "--size", 64)
    assert code == 0, output
    found = np.array(Image.open(tmp_path / "masks/00000.png")) == 1
    truth = np.array(Image.open(files / "first.png")) == 2
    assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_score_of_a_perfect_prediction_is_100(files, tmp_path):
    code, _ = segment(files, tmp_path, "--mask", files / "first.png", "--size", 64)
    assert code == 0
    code, output = mnemask(
        "score", "--gt", tmp_path / "masks", "--pred", tmp_path / "masks", "--json", tmp_path / "s.json"
    )
    assert code == 0, output
    assert "100.0" in output
    assert json.loads((tmp_path / "s.json").read_text())
    scored = ["score", "--gt", tmp_path / "masks", "--pred", tmp_path / "masks", "--json"]
    assert mnemask(*scored, tmp_path / "s.json")[0] == 0
    for mine in ("made by hand", '{"made": "by hand"}'):
        (tmp_path / "mine.json").write_text(mine)
        assert mnemask(*scored, tmp_path / "mine.json")[0] == 2
        assert (tmp_path / "mine.json").read_text() == mine


# Every kind of bad input that a user may bring: one sentence, exit code 2, no traceback.
BAD = {
    "no such device": (["--mask", "first.png", "--device", "abacus"], "device 'abacus'"),
    "no prompt": ([], "nothing to track"),
    "missing video": (["VIDEO=nowhere.mp4", "--mask", "first.png"], "nowhere.mp4"),
    "no video": (["VIDEO=first.txt", "--mask", "first.png"], "first.txt"),
    "empty folder": (["VIDEO=empty", "--mask", "first.png"], "empty"),
    "missing mask": (["--mask", "nowhere.png"], "nowhere.png"),
    "mask of another size": (["--mask", "small.png"], "48"),
    "empty mask": (["--mask", "black.png"], "black.png"),
    "a photograph as mask": (["--mask", "photo.png"], "photo.png"),
    "antialiased ids": (["--mask", "blended.png"], "blended"),
    "text as mask": (["--mask", "first.txt"], "first.txt"),
    "bad box": (["--box", "1,2,3"], "1,2,3"),
    "box outside": (["--box", "900,900,10,10"], "900"),
    "bad at": (["--at", "five=first.png"], "five"),
    "an id for several objects": (["--mask", "first.png", "--at", "5:3=first.png"], "marks objects 1, 2"),
    "a mask that does not say whose it is": (
        ["--mask", "first.png", "--at", "5=bw.png"],
        "--at 5:3=bw.png for a new one",
    ),
    "nor among objects that came later": (
        ["--mask", "bw.png", "--at", "2=late.png", "--at", "5=bw.png"],
        "--at 5:4=bw.png for a new one",
    ),
    "at beyond the end": (["--mask", "first.png", "--at", "99=late.png"], "99"),
    "two masks of an object in a frame": (["--mask", "first.png", "--at", "0=first.png"], "marks object 1 in frame 0"),
    "a camera of no number": (["VIDEO=camera:99999999999999", "--mask", "first.png"], "camera 99999999999999"),
    "commands to a terminal": (["--mask", "none\x1b[31m\n.png"], r"none\x1b[31m\n.png"),
    "budget too small": (["--mask", "first.png", "--frames", "0.5"], "0.5 frames"),
    "bytes too few": (["--mask", "first.png", "--budget", "1MiB"], "1MiB"),
    "bad unit": (["--mask", "first.png", "--budget", "64 cows"], "cows"),
    "two budgets": (["--mask", "first.png", "--budget", "64MiB", "--frames", "2"], "only one"),
    "keep-all over budget": (
        ["--mask", "first.png", "--policy", "keep-all", "--frames", "1", "--write-every", "1"],
        "keep-all",
    ),
    "foreign weights": (["--mask", "first.png", "--model", "first.txt"], "first.txt"),
    "hostile weights": (["--mask", "first.png", "--model", "hostile.pth"], "hostile.pth"),
    "no weights in the package": (["--mask", "first.png", "--model", "stcn"], "stcn"),
    "output is a file": (["--mask", "first.png", "OUT=first.txt"], "first.txt"),
    "frame of another size": (["VIDEO=mixed", "--mask", "first.png"], "00003"),
    "damaged frame": (["VIDEO=damaged", "--mask", "first.png"], "00003"),
    "truncated video": (["VIDEO=cut.mkv", "--mask", "first.png"], "cut"),
}


class Opens:
    """Would create a file when unpickled."""

    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.fixture(scope="session")
def bad_files(files):
    """Adds one file of each bad kind."""
    (files / "empty").mkdir()
    (files / "first.txt").write_text("not a picture")
    labels = np.array(Image.open(files / "first.png"))
    Image.fromarray(labels[:48, :64]).save(files / "small.png")
    Image.fromarray(np.zeros_like(labels)).save(files / "black.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.0)).save(files / "photo.png")
    soft = cv2.resize(cv2.resize(labels * 40, (48, 32), interpolation=cv2.INTER_AREA), (96, 64))
    Image.fromarray(soft).save(files / "blended.png")
    torch.save({"weights": Opens()}, files / "hostile.pth")
    for name, spoil in (("mixed", lambda image: image[:32]), ("damaged", None)):
        (files / name).mkdir()
        for path in sorted((files / "frames").iterdir()):
            image = cv2.imread(str(path))
            if path.stem == "00003":
                if spoil is None:
                    (files / name / path.name).write_bytes(path.read_bytes()[:200])
                    continue
                image = spoil(image)
            cv2.imwrite(str(files / name / path.name), image)
    with mm.MaskWriter(files / "whole.mp4", "overlay") as writer:
        for index in range(200):
            image = torch.from_numpy(np.random.default_rng(index).integers(0, 256, (3, 64, 96), np.uint8))
            empty = torch.zeros(64, 96, dtype=torch.int32)
            writer.write(mm.Masks(empty, torch.ones(1, 64, 96), (), index), mm.Frame(image, index, index / 25))
    remux(files / "whole.mp4", files / "whole.mkv")
    (files / "cut.mkv").write_bytes((files / "whole.mkv").read_bytes()[: (files / "whole.mkv").stat().st_size // 2])
    return files


def remux(source, target):
    import av

    with av.open(str(source)) as inside, av.open(str(target), "w") as outside:
        stream = outside.add_stream_from_template(inside.streams.video[0])
        for packet in inside.demux(inside.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                outside.mux(packet)


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_input_gives_one_sentence_and_exit_code_2(bad_files, tmp_path, kind, monkeypatch, as_users_call_it):
    monkeypatch.chdir(bad_files)
    arguments, named = BAD[kind]
    places = dict(argument.split("=", 1) for argument in arguments if re.match(r"(VIDEO|OUT)=", argument))
    rest = [argument for argument in arguments if not re.match(r"(VIDEO|OUT)=", argument)]
    if "--model" not in rest:
        rest += ["--model", "tiny.safetensors"]
    code, output = mnemask(
        "segment", places.get("VIDEO", "frames"), "-o", places.get("OUT", tmp_path / "out"), "--size", 64, *rest
    )
    assert code == 2, output
    assert output.count("error:") == 1, output
    assert named in output
    assert "Traceback" not in output
    assert not (bad_files / "executed").exists()


def test_what_was_written_before_a_damaged_frame_stays(bad_files, tmp_path):
    code, _ = mnemask(
        "segment", bad_files / "damaged", "--mask", bad_files / "first.png", "-o", tmp_path, "--size", 64,
        "--model", bad_files / "tiny.safetensors",
    )  # fmt: skip
    assert code == 2
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["complete"]
    assert "00003" in report["stopped_by"]


def test_an_unknown_option_value_is_refused_with_the_choices(files, tmp_path):
    code, output = segment(files, tmp_path, "--mask", files / "first.png", "--policy", "oracle")
    assert code == 2
    assert "lfu" in output


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--size", "-3"], ["--size", "-3", "32"]),
        (["--size=3.5"], ["--size", "3.5", "integer"]),
        (["--only", "2", "--only", "both"], ["--only", "both"]),
        (["--fps", "1e9"], ["--fps", "1e9", "1000"]),
        *((["--fps", rate], ["--fps", rate, "1000"]) for rate in ("0", "-25", "24/", "1/0", "-1/3", "nan", "fast")),
        (["--format", "tiff"], ["--format", "tiff", "ffv1"]),
    ],
)
def test_a_value_that_an_option_cannot_have_is_named(tmp_path, given, named):
    result = CliRunner().invoke(app, ["segment", "clip.mp4", "-o", str(tmp_path / "out"), *given])
    assert result.exit_code == 2
    assert all(word in result.output for word in named), result.output


@pytest.mark.parametrize("name", ["segment", "evaluate", "train", "batch"])
def test_a_command_without_what_it_needs_says_what_is_missing(name):
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 2
    assert "Missing argument" in result.output


def test_help_teaches_with_examples():
    code, output = mnemask("segment", "--help")
    assert code == 0
    assert "mnemask segment street.mp4 --mask first.png -o out" in output


@pytest.mark.parametrize("name", sorted(typer.main.get_command(app).commands))
def test_each_command_has_an_example_and_says_what_it_does_behind_a_hash(name):
    text = typer.main.get_command(app).commands[name].help
    assert f"`mnemask {name}" in text
    examples = re.findall(r"\n\n`([^`]+)`(.*)", text)
    assert examples
    assert not any(behind for _, behind in examples), examples
    assert not re.search(r"^#", text, re.MULTILINE), "Markdown takes it for a heading"


def test_the_options_that_a_newcomer_needs_come_first():
    options = [each for each in typer.main.get_command(app).commands["segment"].params if each.opts[0] != "video"]
    first = [max(each.opts, key=len) for each in options if each.rich_help_panel is None]
    assert first[:5] == ["--out", "--mask", "--box", "--click", "--overlay"]
    assert len(first) < 12 < len(options)
