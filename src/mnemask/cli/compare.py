"""`mnemask compare`: compares policies on the user's own video, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, locks_out
from mnemask.cli.inputs import PROMPTS, PromptOptions, of_video, with_prompts
from mnemask.cli.inspect import repeatable
from mnemask.cli.options import (
    CONFIG,
    POLICY_HELP,
    DeviceOption,
    ModelOption,
    chosen_policy,
    configured,
    in_panels,
)
from mnemask.cli.output import emit, print_table, say
from mnemask.cli.progress import Show, progress

if TYPE_CHECKING:
    from mnemask.comparison import CompareProgress
    from mnemask.prompts import PromptPlan


@command
@locks_out
@in_panels()
@with_prompts("object_")
@configured("policy", "budget")
def compare(
    video: Annotated[
        str, typer.Argument(help="A video file, or a folder or quoted glob of images; read several times.")
    ],
    policy: Annotated[list[str], typer.Option(metavar="POLICY", help=f"{POLICY_HELP} Repeat to compare several.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for compare.html and its files.")],
    prompts: PromptOptions = PROMPTS,
    gt: Annotated[
        Path | None, typer.Option(help="Folder of true masks of all or some frames, with the names of the frames.")
    ] = None,
    no_consistency: Annotated[
        bool, typer.Option("--no-consistency", help="Without --gt, do not track back; takes half the time.")
    ] = False,
    model: ModelOption = "compact",
    config: mm.TrackerConfig = CONFIG,
    device: DeviceOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier comparison in the folder.")
    ] = False,
) -> None:
    """Compare policies on a video: masks, agreement, scores, speed, bytes and memory, on a page that works offline.

    **Examples**

    `mnemask compare street.mp4 --mask first.png --policy diverse --policy lfu --policy keep-all -o look`

    `mnemask compare frames/ --mask first.png --policy lfu --policy fifo --gt masks/ -o look  # scores them by J and F`

    Without --gt, each policy also tracks back from its last mask, to see whether it finds the masks you gave.
    To resume, run the same command again; with more policies, it adds them.
    """
    from mnemask.comparison import compare_video
    from mnemask.evaluation.runner import TrackerFactory

    video = repeatable(video)
    prompts.plan(video).say_notes()  # so that errors in the prompts are reported before the video is read

    def new_plan() -> PromptPlan:
        plan = prompts.plan(video)
        if prompts.boxes or prompts.clicks or prompts.not_clicks:
            plan.prepare(mm.load_model(model, device=device))
        return plan

    with progress() as show:
        comparison = compare_video(
            video,
            new_plan,
            [chosen_policy(text) for text in policy],
            out,
            TrackerFactory(config, model, device),
            gt=gt,
            masks=prompts.files(),
            consistency=not no_consistency,
            overwrite=overwrite,
            settings={"video": of_video(video, growing=False), **prompts.settings()},
            on_progress=lambda progress: show_stage(show, progress),
        )
    rows = comparison.rows()
    emit("result", command="compare", out=str(out), rows=rows, page=str(out / "compare.html"))
    show_table(rows)
    say(str(out / "compare.html"))


def show_table(rows: list[dict[str, str | int | float | None]]) -> None:
    """Prints the policies' results, with scores in percent."""
    names = [name for name in ("J&F", "J", "F", "consistency", "agreement") if rows[0].get(name) is not None]
    body = []
    for row in rows:
        scores = [f"{100 * float(row[name] or 0):.1f}" if row.get(name) is not None else "-" for name in names]
        costs = f"{row['frames/s']:.2f}", f"{row['frames held']:.2f}", f"{float(row['most bytes'] or 0) / 2**20:.1f}"
        body.append((str(row["policy"]), *scores, *costs))
    print_table(("policy", *names, "frames/s", "frames held", "most MiB"), body)


def show_stage(show: Show, progress: CompareProgress) -> None:
    """Shows the current stage, its progress and its speed."""
    before = f" ({', '.join(progress.reused)}: done before)" if progress.reused else ""
    of = "" if progress.total is None else f"/{progress.total}"
    text = f"{progress.stage} · {progress.frames}{of} frames · {progress.frames_per_second:.1f} frames/s{before}"
    per_second = round(progress.frames_per_second, 3)
    show(progress.frames, progress.total, text, progress.stage, unit="frames", per_second=per_second)
