"""`mnemask experiment`: the thesis's tables and figures, and ablations, on any benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, console, locks_out
from mnemask.cli.evaluate import show_suite
from mnemask.cli.options import (
    CONFIG,
    POLICY_HELP,
    AllFramesOption,
    DatasetOption,
    DeviceOption,
    ModelOption,
    PingPongOption,
    ProcessesOption,
    SequenceOption,
    SingleObjectOption,
    SubsetOption,
    chosen_dataset,
    chosen_policy,
    configured,
    in_panels,
)
from mnemask.cli.output import emit, print_table, say
from mnemask.cli.progress import progress

if TYPE_CHECKING:
    from mnemask.experiments import ExperimentResult

# Columns that are only in the files.
LEFT_OUT = ("J&F-Low", "J&F-High", "gain-Low", "gain-High", "J-Recall", "F-Recall", "F-Decay", "most frames")


def show_experiments(wanted: bool | None) -> None:
    """Prints the names of all experiments and exits."""
    from mnemask.experiments import EXPERIMENTS

    if not wanted:
        return
    about = ((name, ", ".join(one.also), one.title) for name, one in EXPERIMENTS.items())
    print_table(("NAME", "in the thesis", "shows"), about)
    raise typer.Exit


@command
@locks_out
@in_panels()
@configured("policy", "frames", "budget", "write_every", "top_k")
def experiment(
    name: Annotated[str, typer.Argument(help="Name, such as strategies, table1 or fig11; see --list.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set.", metavar="DATASET_ROOT")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for all experiments, which share their runs.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="POLICY", help=f"Another policy to add to the experiment's. {POLICY_HELP} Repeatable."),
    ] = None,
    config: mm.TrackerConfig = CONFIG,
    model: ModelOption = "compact",
    subset: SubsetOption = None,
    sequence: SequenceOption = None,
    ping_pong: PingPongOption = None,
    all_frames: AllFramesOption = False,
    single_object: SingleObjectOption = False,
    processes: ProcessesOption = 1,
    device: DeviceOption = None,
    list_all: Annotated[
        bool | None,
        typer.Option("--list", callback=show_experiments, is_eager=True, help="List the experiments and exit."),
    ] = None,
) -> None:
    """Repeat an experiment of the thesis, or run an ablation. To resume, run the same command again.

    **Examples**

    `mnemask experiment --list  # lists the experiments`

    `mnemask experiment table1 DAVIS --dataset davis2017 --model stcn.pth -o lab  # adds the thesis's numbers`

    `mnemask experiment table1 DAVIS --dataset davis2017 --policy newest.py:Newest -o lab  # adds a row of your own`

    `mnemask experiment fig11 DAVIS --dataset davis2017 --model stcn.pth -o lab  # reuses the runs of table1`

    OUT/NAME has the table as Markdown, CSV, JSON and LaTeX, and the figures; OUT/runs has masks and scores.
    """
    from mnemask.evaluation.benchmark import Benchmark
    from mnemask.evaluation.runner import TrackerFactory
    from mnemask.experiments import run_experiment

    benchmark = Benchmark(root, chosen_dataset(dataset), subset, ping_pong, all_frames, single_object)
    with progress() as show:
        findings = run_experiment(
            name,
            benchmark,
            out,
            TrackerFactory(config, model, device),
            policies=[chosen_policy(text) for text in policy or ()],
            sequences=sequence or (),
            processes=processes,
            on_progress=lambda progress: show_suite(show, progress),
        )
    rows = [dict(zip(findings.cells[0], row, strict=True)) for row in findings.cells[1:]]
    files = [str(path) for path in findings.files]
    emit("result", command="experiment", title=findings.title, rows=rows, notes=list(findings.notes), files=files)
    show_findings(findings)


def show_findings(findings: ExperimentResult) -> None:
    """Prints the table, the notes, and where the files are."""
    header, *body = in_short(findings.cells)
    print_table(header, body, title=findings.title)
    for note in findings.notes:
        console.print(f"note: {note}", markup=False)
    for path in findings.files:
        say(str(path))


def in_short(cells: list[list[str]]) -> list[list[str]]:
    """Returns the columns of a table for which a terminal has room, with a gain and its interval in one."""
    header, *body = cells
    shown = [column for column, name in enumerate(header) if name not in LEFT_OUT]
    short = [[header[column].removesuffix("-Mean") for column in shown]]
    for row in body:
        named = dict(zip(header, row, strict=True))
        if named.get("gain-Low", "-") != "-":
            named["gain"] += f" ({named['gain-Low']} to {named['gain-High']})"
        short.append([named[header[column]] for column in shown])
    return short
