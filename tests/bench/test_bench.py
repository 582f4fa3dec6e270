"""`mnemask bench` on frames and networks small enough for a test."""

import json
import time

import pytest
import torch
from typer.testing import CliRunner

import mnemask as mm
from mnemask.bench.machine import Timing, ceilings, heading, interleaved
from mnemask.cli import app
from mnemask.model.checkpoints import save_model

CPU = torch.device("cpu")


def test_actions_take_turns_and_the_first_round_is_not_counted():
    log, slow = [], iter([0.2, 0.0, 0.0, 0.0])
    times = interleaved({"a": lambda: (log.append("a"), time.sleep(next(slow))), "b": lambda: log.append("b")}, 3, CPU)
    assert "".join(log) == "abababab"
    assert times["a"].rounds == 3
    assert times["a"].low <= times["a"].median <= times["a"].high < 0.2


def test_times_are_told_with_their_spread_in_digits_that_matter():
    assert Timing(0.01234, 0.0119, 0.013, 0.01, 5).milliseconds == "12.3 (11.9–13.0)"
    assert Timing(1.5, 1.25, 2.0, 1.0, 5).milliseconds == "1500 (1250–2000)"


def test_a_table_is_headed_by_machine_versions_and_date():
    line = heading(CPU)
    assert f"torch {torch.__version__}, mnemask {mm.__version__}; 20" in line
    assert f"{torch.get_num_threads()} threads" in line


def test_ceilings_are_measured_for_each_precision_and_number_of_threads():
    before = torch.get_num_threads()
    found = ceilings(CPU, (torch.float32, torch.float32), (1, 2), rounds=1)
    assert {(each.kind, each.dtype, each.threads) for each in found} == {
        (kind, "float32", threads) for kind in ("matmul", "conv 3x3", "copy") for threads in (1, 2)
    }
    assert all(each.per_second > 1e6 for each in found)
    assert torch.get_num_threads() == before


@pytest.fixture(scope="module")
def measured(tiny_model, tmp_path_factory):
    """The output and the numbers of the command."""
    folder = tmp_path_factory.mktemp("bench")
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    options = ["--model", folder / "tiny.safetensors", "--objects", "1,2", "--size", 48, "--quick", "--rounds", 1]
    result = CliRunner().invoke(app, [str(o) for o in ("bench", *options, "--json", folder / "bench.json")])
    assert result.exit_code == 0, result.output
    return result.output, json.loads((folder / "bench.json").read_text())


def test_each_part_is_measured_for_each_number_of_objects(measured):
    _, numbers = measured
    names = {(part["name"], part["num_objects"]) for part in numbers["parts"]}
    parts = ("key encoder", "value encoder", "decoder", "labels", "read, 2 frames")
    assert names >= {(name, count) for name in parts for count in (1, 2)}
    assert all(part["fast"]["median"] > 0 for part in numbers["parts"])
    convolutions = [part for part in numbers["parts"] if "encoder" in part["name"] or part["name"] == "decoder"]
    assert all(part["flops"] > 10**6 and part["bytes"] > 10**4 and part["share"] > 0 for part in convolutions)


def test_two_objects_are_twice_the_value_encoder_and_one_key_encoder(measured):
    flops = {(part["name"], part["num_objects"]): part["flops"] for part in measured[1]["parts"]}
    assert flops["key encoder", 1] == flops["key encoder", 2]
    assert 1.5 < flops["value encoder", 2] / flops["value encoder", 1] <= 2.0


def test_whole_frames_files_and_start_up_are_measured(measured):
    output, numbers = measured
    assert [frame["num_objects"] for frame in numbers["frames"]] == [1, 2]
    assert {file["name"] for file in numbers["files"]} == {"decode an mp4", "write PNGs", "mp4 to PNGs, whole"}
    assert numbers["start_up"]["median"] > 0
    assert "What the machine can do" in output


@pytest.mark.parametrize("objects", ["", "0", "9", "1,", "x", "1;2", "9" * 5000])
def test_other_objects_are_refused(objects):
    result = CliRunner().invoke(app, ["bench", "--objects", objects])
    assert result.exit_code == 2
    assert "1,3" in result.output
