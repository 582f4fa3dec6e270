"""`mnemask experiment` as its user runs it."""

import re

import pytest
from command_line import mnemask
from drawn_davis import draw_davis_2016


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return draw_davis_2016(tmp_path_factory.mktemp("davis"), names=("camel",))


def experiment(*arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    return mnemask("experiment", *arguments, columns=200)


def test_all_experiments_are_listed():
    code, output = experiment("--list")
    assert code == 0
    assert "capacity fig11" in output


def test_an_experiment_prints_its_table_its_notes_and_its_files(davis, tmp_path):
    arguments = ["--dataset", "davis2016", "--size", 64, "--device", "cpu", "-o", tmp_path]
    code, output = experiment("tables7-8", davis, *arguments)
    assert code == 0, output
    assert re.search(r"camel_1 [\d.]+ [\d.]+ 96\.8 99\.4 -?[\d.]+", output)
    assert "PART OF THE DATA: 1 of the 20" in output
    assert (tmp_path / "per-sequence/per-sequence.md").is_file()


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("table12", [], "there is no experiment 'table12'"),
        ("table1", ["--sequence", "cow"], "there is no sequence 'cow'"),
        ("table1", ["--model", "none.pth"], "none.pth"),
        ("table1", ["--single-object"], "leave --single-object out"),
    ],
)
def test_a_wrong_argument_gives_one_sentence_and_exit_code_2(davis, tmp_path, name, arguments, named):
    code, output = experiment(name, davis, "--dataset", "davis2016", "-o", tmp_path / "out", *arguments)
    assert code == 2, output
    assert named in output
    assert not (tmp_path / "out").exists()
