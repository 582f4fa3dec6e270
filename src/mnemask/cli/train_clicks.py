"""`mnemask train-clicks`: the head that makes masks from clicks, for a model's key encoder."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import mnemask as mm
from mnemask.cli.app import command, console, errors
from mnemask.cli.train import Accelerator, Minutes, Out, Resume, need_training


@command
def train_clicks(
    data: Annotated[
        Path,
        typer.Argument(help="Folder with static/NAME/{images,masks}, video_train/SET/NAME/{frames,masks}, or both."),
    ],
    out: Out,
    model: Annotated[
        str, typer.Option("--model", help="Whose key encoder it is for: `compact`, or a checkpoint.")
    ] = "compact",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates. [default: the recipe's]")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    minutes: Minutes = None,
) -> None:
    """Train the head that makes masks from clicks, by simulated clicks; the model itself stays as it is.

    A head fits one key encoder: after training a model, train its head too.

    `mnemask train-clicks DATA -o run --model model.safetensors` leaves `run/clicks.safetensors`.
    """
    need_training()
    from mnemask.training.click_launch import launch_clicks
    from mnemask.training.click_trainer import ClickRecipe, ClickReport

    recipe = ClickRecipe(seed=seed) if steps is None else ClickRecipe(steps=steps, seed=seed)
    network = mm.load_model(model, device=None if accelerator == "auto" else accelerator)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("starting …", total=recipe.steps)

        def show(report: ClickReport) -> None:
            ious = " ".join(f"{iou:.3f}" for iou in report.ious)
            text = f"step {report.step}/{recipe.steps} · loss {report.loss:.3f} · IoU by round {ious}"
            bar.update(task, completed=report.step, description=text)

        training = launch_clicks(
            recipe, data, network, out, accelerator=accelerator, minutes=minutes, resume=resume, on_step=show
        )
    if training.finished:
        minutes_taken = training.seconds / 60
        console.print(
            f"{training.step} steps in {minutes_taken:.1f} min; head {out / 'clicks.safetensors'}", markup=False
        )
    else:
        console.print(f"stopped after step {training.step} of {recipe.steps}; go on with the same command and --resume")
    if training.stop_asked:
        raise typer.Exit(130)
