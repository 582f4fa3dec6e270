"""`mnemask evaluate` as its user runs it."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from command_line import mnemask
from drawn_benchmark import draw_davis, draw_video, draw_youtube_vos
from typer.testing import CliRunner

from mnemask.cli import app
from mnemask.memory.policies import DEFAULT_POLICY
from mnemask.model.checkpoints import save_model

pytestmark = pytest.mark.precision


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    """A folder with small data sets and a checkpoint."""
    folder = tmp_path_factory.mktemp("sets")
    draw_davis(folder / "davis")
    draw_youtube_vos(folder / "yv")
    draw_video(folder / "own/frames", folder / "own/masks", 6, scale=255)
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    (folder / "file").write_text("")
    return folder


def evaluate(place, *arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    fixed = ["--model", place / "tiny.safetensors", "--size", "48", "--device", "cpu"]
    return mnemask("evaluate", *arguments, *fixed)


def test_policies_are_compared_in_tables(place, tmp_path):
    command = [place / "davis", "--dataset", "davis2016", "--policy", "lfu", "--policy", "fifo", "-o", tmp_path]
    code, output = evaluate(place, *command)
    assert code == 0, output
    assert "fifo" in output
    rows = (tmp_path / "tables/sequences.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        ["lfu", "bear"], ["lfu", "dog"], ["fifo", "bear"], ["fifo", "dog"],
    ]  # fmt: skip
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("results/*/*"))]
    code, output = evaluate(place, *command, "--json")
    assert code == 0, output
    assert json.loads(output[output.index('{"type": "result"') :])["rows"] == json.loads(
        (tmp_path / "tables/overall.json").read_text()
    )
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("results/*/*"))] == times


def test_a_secret_set_gives_a_zip_for_its_server(place, tmp_path):
    code, output = evaluate(place, place / "yv", "--dataset", "youtube-vos", "-o", tmp_path)
    assert code == 0, output
    assert "submit" in output
    assert (tmp_path / f"submission/{DEFAULT_POLICY}.zip").stat().st_size > 500


def test_a_video_of_ones_own_played_to_and_fro(place, tmp_path):
    arguments = ["--dataset", "folder", "--single-object", "--ping-pong", 2, "--write-every", 2, "--frames", 1.5]
    code, output = evaluate(place, place / "own", *arguments, "--policy", "lfu", "-o", tmp_path)
    assert code == 0, output
    assert "lfu,own,21," in (tmp_path / "tables/sequences.csv").read_text()


def test_ctrl_c_leaves_what_is_done_and_says_so(place, tmp_path):
    long = ["--ping-pong", "40", "--policy", "lfu", "--policy", "keep-all"]
    arguments = [place / "davis", "--dataset", "davis2016", "--model", place / "tiny.safetensors", "--size", "48"]
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, "evaluate", *map(str, arguments), *long, "-o", tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    begin, first = time.monotonic(), tmp_path / "results/lfu/bear.json"
    while not first.exists() and time.monotonic() < begin + 300:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 130, output
    assert "stopped; the files written so far are complete" in output
    assert first.exists()
    assert len(list(tmp_path.glob("masks/lfu/bear/*.png"))) == 321
    assert not (tmp_path / "tables").exists()


# A process that was started in the background may ignore Ctrl-C.
RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mnemask.cli import main; main()"

BAD = {
    "no such folder": (["nowhere", "--dataset", "davis2016"], "nowhere"),
    "not that data set": (["davis", "--dataset", "youtube-vos"], "meta.json"),
    "no such data set": (["davis", "--dataset", "davis2015"], "davis2016"),
    "no such subset": (["davis", "--dataset", "davis2016", "--subset", "train"], "'train'"),
    "a subset of a folder": (["own", "--dataset", "folder", "--subset", "val"], "folder has no subsets"),
    "no such sequence": (["davis", "--dataset", "davis2016", "--sequence", "cow"], "no sequence 'cow'"),
    "no such policy": (["davis", "--dataset", "davis2016", "--policy", "oracle"], "lfu"),
    "a budget too small": (["davis", "--dataset", "davis2016", "--frames", "0.5"], "on bear: a budget of 0.5 frames"),
    "no budget": (["davis", "--dataset", "davis2016", "--frames", "0"], "budget of 0.0 frames"),
    "no processes": (["davis", "--dataset", "davis2016", "--processes", "0"], "processes"),
    "a secret set played to and fro": (["yv", "--dataset", "youtube-vos", "--ping-pong", "2"], "secret"),
    "the output is a file": (["davis", "--dataset", "davis2016", "OUT=file"], "file"),
    "no such weights": (["davis", "--dataset", "davis2016", "--model", "none.pth"], "none.pth"),
    "no such device": (["davis", "--dataset", "davis2016", "--device", "abacus"], "device 'abacus'"),
    "no such accelerator": (["davis", "--dataset", "davis2016", "--device", "cuda:99"], "device 'cuda:99'"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_a_wrong_argument_gives_one_sentence_and_exit_code_2(place, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(place)
    arguments, named = BAD[kind]
    out = next((word.removeprefix("OUT=") for word in arguments if word.startswith("OUT=")), tmp_path / "out")
    arguments = [word for word in arguments if not word.startswith("OUT=")]
    fixed = {"--model": "tiny.safetensors", "--device": "cpu", "--size": "48"}
    rest = [word for option, value in fixed.items() if option not in arguments for word in (option, value)]
    result = CliRunner().invoke(app, ["evaluate", *arguments, *rest, "-o", str(out)])
    output = re.sub(r"[\s│]+", " ", result.output)
    assert result.exit_code == 2, (output, result.exception)
    assert named in output
    assert "Traceback" not in output
