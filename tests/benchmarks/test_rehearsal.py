"""The commands of docs/reproduce.md are ones that the command line takes, as they stand and in small."""

import runpy
from pathlib import Path

import pytest
import typer

from mnemask.cli import app

ROOT = Path(__file__).resolve().parents[2]
REHEARSAL = runpy.run_path(str(ROOT / "benchmarks/rehearse_thesis.py"))
COMMANDS = REHEARSAL["commands"]()
GROUP = typer.main.get_command(app)


def test_the_page_has_a_command_for_each_table_and_figure_of_the_thesis():
    text = REHEARSAL["PAGE"].read_text()
    words = {word for command in COMMANDS for word in command}
    assert {"table1", "table2", "table3", "table4", "table7", "table8", "fig9", "fig10", "fig11"} <= words
    assert {"static", "main", "benchmarks/table5.py", "lab/table6/dropout", "lab/table9/dropout"} <= words
    assert all(f"Table {number}" in text or f"Tables {number}" in text for number in (1, 3, 4, 5, 7, 9))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_parses_as_it_stands_and_in_small(command):
    for words in (command, REHEARSAL["in_small"](command)):
        if words[0] == "mnemask":
            GROUP.commands[words[1]].make_context(words[1], words[2:])
        else:
            source = (ROOT / words[1]).read_text()
            assert all(f'"{word}"' in source for word in words if word.startswith("--"))


def test_what_is_made_small_is_not_what_takes_long():
    small = [REHEARSAL["in_small"](command) for command in COMMANDS]
    assert not [words for words in small if "stcn" in words or "--devices" in words]
    assert all("--steps" in words for words in small if {"static", "main", "benchmarks/table5.py"} & set(words[1:3]))
