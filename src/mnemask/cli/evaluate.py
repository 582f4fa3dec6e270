"""`mnemask score` (J and F of masks), `evaluate` (policies on a benchmark), `significance` (is one better?)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, console, locks_out
from mnemask.cli.options import (
    CONFIG,
    DEFAULT_ENGINE,
    POLICY_HELP,
    AllFramesOption,
    DatasetOption,
    DeviceOption,
    EngineOption,
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
from mnemask.cli.output import emit, print_table
from mnemask.cli.progress import Show, progress

if TYPE_CHECKING:
    from mnemask.evaluation.suite import SuiteProgress

SUFFIXES = {"markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}
# Columns that the others imply, and A, which is the same in all rows.
LEFT_OUT = ("A", "gain-Low", "gain-High", "A-Mean", "B-Mean", "wins", "ties", "losses")
SHOWN = {
    "policy": "policy",
    "J&F-Mean": "J&F",
    "J&F-Low": "95 %",
    "J&F-High": "to",
    "gain": "gain",
    "p": "p",
    "J-Mean": "J",
    "F-Mean": "F",
    "J-Decay": "J decay",
    "frames/s": "frames/s",
    "frames held": "frames",
    "MiB": "MiB",
}


class Protocol(StrEnum):
    """The scoring rules of DAVIS."""

    davis2016 = "davis2016"
    davis2017 = "davis2017"


class Per(StrEnum):
    """The unit of a row of scores."""

    sequence = "sequence"
    object = "object"


@command
def score(
    gt: Annotated[Path, typer.Option(help="Folder of the true masks: SEQUENCE/*.png, or one sequence's *.png.")],
    pred: Annotated[Path, typer.Option(help="Folder of the masks to score, with the same names.")],
    protocol: Annotated[
        Protocol, typer.Option(help="davis2016: everything marked is one object. davis2017: each id is an object.")
    ] = Protocol.davis2017,
    per: Annotated[Per, typer.Option(help="Print a row for each sequence or each object.")] = Per.sequence,
    official_decay: Annotated[
        bool, typer.Option("--official-decay", help="Compute the official tool's decay, wrong past 256 frames.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all scores to this file, or with `-` to standard output.")
    ] = None,
) -> None:
    """Score masks by the DAVIS measures: J (overlap), F (boundary), their mean, recall and decay.

    The first and the last frame are not scored, as in the official semi-supervised protocol.

    **Examples**

    `mnemask score --gt DAVIS/Annotations/480p --pred davis/masks/lfu  # J and F of each sequence`

    `mnemask score --gt truth --pred out/masks --protocol davis2016  # for masks of 0 and 255`
    """
    from mnemask.evaluation.score import score_folder
    from mnemask.evaluation.tables import cells
    from mnemask.pipeline import refuse_other_report, write_report

    if json_file is not None:
        refuse_other_report(json_file, "protocol")
    report = score_folder(gt, pred, protocol=protocol.value, official_decay=official_decay)
    emit("result", command="score", **report.to_dict(frames=True))
    header, *rows = cells(report.rows(per.value))
    print_table(header, rows, total=True)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    if json_file is not None:
        write_report(json_file, report.to_dict(frames=True))
        console.print(f"scores in {json_file}", markup=False)


@command
@locks_out
@in_panels()
@configured("policy", "budget")
def evaluate(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.", metavar="DATASET_ROOT")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for masks/, results/ and tables/.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="POLICY", help=f"{POLICY_HELP} Repeatable. [default: {choices.DEFAULT_POLICY}]"),
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
    engine: EngineOption = DEFAULT_ENGINE,
) -> None:
    """Score policies on a benchmark by J and F, speed and memory. To resume, run the same command again.

    **Examples**

    `mnemask evaluate DAVIS --dataset davis2017 --policy diverse --policy lfu -o davis`

    `mnemask evaluate DAVIS --dataset davis2017 --policy diverse --policy newest.py:Newest -o davis  # scores your own`

    `mnemask evaluate YouTube-VOS --dataset youtube-vos -o yv  # writes yv/submission/diverse.zip for the server`

    `mnemask evaluate DAVIS --dataset davis2016 --sequence camel --ping-pong 20
    -o long  # shows drift over 3,561 frames`

    Each result is saved in OUT/masks and OUT/results when it is complete; OUT/tables has CSV, JSON, Markdown and LaTeX.
    """
    from mnemask.evaluation.benchmark import Benchmark
    from mnemask.evaluation.runner import TrackerFactory
    from mnemask.evaluation.suite import run_benchmark
    from mnemask.evaluation.tables import cells, check_tables, write_submission, write_tables
    from mnemask.io.atomic import safe_name

    benchmark = Benchmark(root, chosen_dataset(dataset), subset, ping_pong, all_frames, single_object)
    policies = [chosen_policy(text) for text in policy or [choices.DEFAULT_POLICY]]
    check_tables(out / "tables")
    with progress() as show:
        results = run_benchmark(
            benchmark,
            policies,
            out,
            TrackerFactory(config, model, device, engine.value),
            sequences=sequence or (),
            processes=processes,
            on_progress=lambda progress: show_suite(show, progress),
        )
    overall = write_tables(results, out / "tables")
    notes = list(dict.fromkeys(note for result in results if result.report for note in result.report.notes))
    emit("result", command="evaluate", out=str(out), rows=overall, notes=notes, tables=str(out / "tables"))
    show_table(cells(overall))
    if "p" in overall[0]:
        console.print(
            f"gain and p: against {policies[0]}, paired by sequence; for details: mnemask significance {out} --a …",
            markup=False,
        )
    for note in notes:
        console.print(f"note: {note}", markup=False)
    threads = " or ".join(str(count) for count in sorted({result.threads for result in results}))
    console.print(f"frames/s: tracker only, {threads} thread(s); tables in {out / 'tables'}", markup=False)
    if benchmark.secret:
        from mnemask.errors import counted

        names = list(dict.fromkeys(result.sequence for result in results))
        for name in dict.fromkeys(policies):
            target = out / "submission" / f"{safe_name(name)}.zip"
            write_submission(out / "masks" / safe_name(name), names, target, benchmark.submission_top)
            console.print(
                f"the true masks are secret; submit {target} ({counted(len(names), 'sequence')})", markup=False
            )


def show_table(overall: list[list[str]]) -> None:
    """Prints the columns of the table over all sequences for which a terminal has room."""
    header, *rows = overall
    shown = [column for column, name in enumerate(header) if name in SHOWN]
    print_table((SHOWN[header[column]] for column in shown), ([row[column] for column in shown] for row in rows))


def show_suite(show: Show, progress: SuiteProgress) -> None:
    """Shows how many sequences are done, and the speed."""
    before = f" ({progress.found} done before)" if progress.found else ""
    text = f"{progress.done}/{progress.total} sequences{before} · {progress.frames_per_second:.1f} frames/s"
    show(
        progress.frames,
        progress.total_frames,
        text,
        unit="frames",
        per_second=round(progress.frames_per_second, 3),
        sequences_done=progress.done,
        sequences_total=progress.total,
    )


class Form(StrEnum):
    """The format in which a table is printed."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


@command
def significance(
    out: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of `mnemask evaluate`. Several, or a folder of several, count as runs, such as seeds."
        ),
    ],
    a: Annotated[
        str,
        typer.Option(
            "--a", metavar="POLICY", help="A policy, or results elsewhere: OUT/results/POLICY, or a quoted glob."
        ),
    ],
    b: Annotated[
        list[str] | None,
        typer.Option("--b", metavar="POLICY", help="Policy to compare with. Repeatable. [default: all others]"),
    ] = None,
    measure: Annotated[str, typer.Option(help="J&F, J or F.")] = "J&F",
    power: Annotated[
        float, typer.Option(metavar="POINTS", help="Report how many sequences a difference of this many points needs.")
    ] = 1.0,
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    per_sequence: Annotated[bool, typer.Option("--per-sequence", help="Print a row per sequence instead.")] = False,
    form: Annotated[Form, typer.Option("--format", help="Format of the table.")] = Form.text,
) -> None:
    """Test whether a policy is better than others: paired by sequence, with intervals and p-values.

    **Examples**

    `mnemask significance davis --a diverse --b lfu  # compares two policies`

    `mnemask significance seed0 seed1 seed2 --a newest:Newest
    --format latex  # compares with all others over three runs`

    `mnemask significance davis --a new/results/lfu --b lfu  # compares the same policy with other weights`

    Intervals are bootstrapped over sequences and the objects in them; p-values are those of a permutation test that
    exchanges the two policies within sequences, with Holm's correction if there are several.
    """
    from mnemask.evaluation.significance import compared
    from mnemask.evaluation.tables import FORMATS, cells

    comparisons = compared(out, a, b or (), measure, level)
    rows = [each.row(power) for each in comparisons]
    if per_sequence:
        rows = [row for each in comparisons for row in each.sequence_rows()]
    notes = [note for each in comparisons for note in each.sentences(measure, power)]
    emit("result", command="significance", rows=rows, notes=notes)
    if form.value != "text":
        console.print(FORMATS[SUFFIXES[form.value]](rows), markup=False, end="", soft_wrap=True)
        return
    header, *body = cells(rows)
    shown = [place for place, name in enumerate(header) if per_sequence or name not in LEFT_OUT]
    print_table((header[place] for place in shown), ([line[place] for place in shown] for line in body))
    for note in notes:
        console.print(note, markup=False)
