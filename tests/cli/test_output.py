"""What a command says to a person, to a log and to a program, on any console."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from drawn_clip import drawn_clip
from PIL import Image
from rich.table import Table

from mnemask.cli.output import PipeConsole, print_table
from mnemask.cli.progress import Pace, duration, every, show_result
from mnemask.model.checkpoints import save_model
from mnemask.pipeline import RunProgress
from mnemask.types import ObjectInfo


@pytest.fixture(scope="module")
def clip(tmp_path_factory, tiny_model):
    """A folder with a clip as images, its first mask, and a checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("clip")
    frames, masks = drawn_clip(6, num_objects=1, seed=2)
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / f"frames/{index:05d}.png")
    Image.fromarray(masks[0, 0].byte().numpy()).save(folder / "first.png")
    save_model(tiny_model, folder / "tiny.safetensors")
    return folder


def mnemask(*arguments, cwd, encoding=None, **how):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONIOENCODING": encoding} if encoding else {})
    command = [sys.executable, "-m", "mnemask", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=120, check=False, **how)


def segment(clip, out, *arguments, **how):
    given = ["--mask", "first.png", "--size", "64", "--model", "tiny.safetensors"]
    return mnemask("segment", "frames", *given, "-o", out, *arguments, cwd=clip, **how)


def test_json_is_one_object_a_line_and_ends_with_the_result(clip, tmp_path):
    done = segment(clip, tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["type"] == "result"
    assert (lines[-1]["command"], lines[-1]["complete"], lines[-1]["frames"]) == ("segment", True, 6)
    assert lines[-1]["out"] == str(tmp_path / "out")


def test_a_program_gets_an_error_as_problem_and_remedy(clip, tmp_path):
    done = mnemask("segment", "none.mp4", "--mask", "first.png", "-o", tmp_path / "out", "--json", cwd=clip)
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, line["type"], line["exit_code"]) == (2, "error", 2)
    assert "none.mp4" in line["problem"]
    assert line["remedy"]


def test_a_quiet_run_says_nothing_and_a_quiet_failure_says_why(clip, tmp_path):
    done = segment(clip, tmp_path / "out", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    again = segment(clip, tmp_path / "out", "--quiet")
    assert (again.returncode, again.stdout) == (2, b"")
    assert again.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_names_that_a_console_cannot_show_are_escaped(clip, tmp_path, encoding):
    done = segment(clip, tmp_path / "вых [red]…\udcff", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "вых [red]…\udcff/report.json").is_file()
    said = done.stdout.decode(encoding)
    assert "[red]" in said
    assert "\\udcff" in said
    assert ("\\u0432" in said) == (encoding != "utf-8")


def test_a_reader_that_goes_away_ends_neither_the_run_nor_with_a_traceback(clip, tmp_path):
    given = "segment frames --mask first.png --size 64 --model tiny.safetensors"
    command = f'"{sys.executable}" -m mnemask {given} -o "{tmp_path / "out"}" --json; echo $? >&2'
    done = subprocess.run(["bash", "-c", f"({command}) | true"], cwd=clip, capture_output=True, text=True, timeout=120)
    assert done.stderr == "0\n"
    assert json.loads((tmp_path / "out/report.json").read_text())["complete"]


@pytest.mark.parametrize("json_lines", ["", "--json"])
def test_a_log_on_a_full_disk_ends_no_run(clip, tmp_path, json_lines):
    given = "segment frames --mask first.png --size 64 --model tiny.safetensors"
    command = f'"{sys.executable}" -m mnemask {given} -o "{tmp_path / "out"}" {json_lines} >/dev/full'
    done = subprocess.run(["bash", "-c", command], cwd=clip, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out/report.json").read_text())["complete"]


def test_nothing_is_wrapped_or_cut_in_a_pipe(tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    with (tmp_path / "piped").open("w+") as file:
        console = PipeConsole(file=file)
        console.print("word " * 60)
        table = Table("name")
        table.add_row("x" * 300)
        console.print(table)
        file.seek(0)
        lines = [line.strip() for line in file.read().splitlines()]
    assert lines[0] == ("word " * 60).strip()
    assert any("x" * 300 in line for line in lines)


@pytest.mark.parametrize("columns", ["0", "²", "-1"])
def test_a_terminal_without_a_width_hides_no_error(tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    done = mnemask("segment", "none.mp4", "--box", "1,1,9,9", "-o", "out", cwd=tmp_path)
    assert (done.returncode, b"none.mp4" in done.stderr) == (2, True)


def test_a_log_gets_a_line_every_ten_seconds_with_the_time_that_is_left():
    now, said = 0.0, []
    show = every(10.0, lambda *step: said.append(step), clock=lambda: now)
    for frame in range(1, 51):
        now = frame * 0.5
        show(frame, 50, f"{frame}/50 frames", unit="frames")
    assert [step[0] for step in said] == [20, 40]
    assert said[1][4] == pytest.approx(5.0)


def test_the_time_left_counts_from_where_a_run_went_on_and_anew_in_each_stage():
    now = 0.0
    pace = Pace(clock=lambda: now)
    assert pace.seconds_left(900, 1000, "") is None
    now = 10.0
    assert pace.seconds_left(910, 1000, "") == pytest.approx(90.0)
    assert pace.seconds_left(1, 1000, "back") is None
    assert pace.seconds_left(5, None, "back") is None


def test_times_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (4.4, 99.0, 600.0, 7800.0)] == ["4 s", "99 s", "10 min", "2 h 10 min"]


@pytest.mark.parametrize("command", [["doctor", "--json"], ["segment", "-", "-o", "out", "--box", "1,1,9,9"]])
def test_closed_streams_are_no_traceback(tmp_path, command):
    line = f'"{sys.executable}" -m mnemask {" ".join(command)} {"<&-" if "-" in command else ">&-"}'
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "-" in command else 0), done.stderr


def test_a_table_shows_names_with_brackets_as_they_are(capsys):
    print_table(["sequence", "J"], [["dog [old]", "91.2"], ["[bold]", "80.0"]], title="one [red]")
    shown = capsys.readouterr().out
    assert "dog [old]" in shown
    assert "[bold]" in shown
    assert "one [red]" in shown


def test_doubtful_objects_are_called_by_what_is_known_of_them(tmp_path, capsys):
    infos = [ObjectInfo(), ObjectInfo(name="Bobby"), ObjectInfo("camel"), ObjectInfo("camel", "Bobby")]
    numbers = range(1, 6)  # nothing is known of the last one
    looks = {number: {"look": "doubtful in frame 3"} for number in numbers}
    held = SimpleNamespace(tokens=0, frames=0.0, bank_bytes=0, evictions=0)
    run = RunProgress(frames=4, seconds=1.0, memory=held, objects=dict(zip(numbers, infos, strict=False)), looks=looks)
    show_result(run, SimpleNamespace(object_ids=list(numbers)), tmp_path, {})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("doubtful in frame 3")]
    called = ["1", "2 (Bobby)", "3 (camel)", "4 (camel:Bobby)", "5"]
    assert lines == [f"object {each} is doubtful in frame 3" for each in called]
