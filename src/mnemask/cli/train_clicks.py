"""`mnemask train-clicks`: the head that makes masks from clicks, for a model's key encoder."""

from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, console, locks_out
from mnemask.cli.output import emit
from mnemask.cli.progress import progress
from mnemask.cli.train import Accelerator, Minutes, Out, Resume, need_training


@command
@locks_out
def train_clicks(
    data: Annotated[
        Path,
        typer.Argument(help="Folder with static/NAME/{images,masks}, video_train/SET/NAME/{frames,masks}, or both."),
    ],
    out: Out,
    model: Annotated[
        str, typer.Option("--model", help="The model to train it for: `compact`, or a checkpoint.")
    ] = "compact",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Begin with this head, `compact` (the package's) or a file, even one of another key encoder: it "
            "adapts in fewer steps than a new one takes. [default: random numbers]"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates. [default: 2000, with --weights 800]")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    minutes: Minutes = None,
) -> None:
    """Train the head that makes masks from clicks, by simulated clicks; the model itself stays as it is.

    A head fits one key encoder: after training a model, train its head too.

    `mnemask train-clicks DATA -o run --model model.safetensors` leaves `run/clicks.safetensors`.

    `mnemask train-clicks DATA -o run --model model.safetensors --weights compact` does so in less than half the time,
    where the key encoder was trained on since.
    """
    need_training()
    from mnemask.model.click_head import packaged_click_head
    from mnemask.training.click_launch import launch_clicks
    from mnemask.training.click_trainer import ClickRecipe, ClickReport

    make_recipe = ClickRecipe.fine_tuning if weights else ClickRecipe
    recipe = make_recipe(seed=seed) if steps is None else make_recipe(steps=steps, seed=seed)
    begin = packaged_click_head() if weights == "compact" else Path(weights) if weights else None
    network = mm.load_model(model, device=None if accelerator == "auto" else accelerator)
    with progress() as show:

        def show_step(report: ClickReport) -> None:
            ious = " ".join(f"{iou:.3f}" for iou in report.ious)
            text = f"step {report.step}/{recipe.steps} · loss {report.loss:.3f} · IoU by round {ious}"
            show(report.step, recipe.steps, text, unit="steps", loss=report.loss, ious=list(report.ious))

        training = launch_clicks(
            recipe,
            data,
            network,
            out,
            accelerator=accelerator,
            minutes=minutes,
            resume=resume,
            weights=begin,
            on_step=show_step,
        )
    head = out / "clicks.safetensors"
    emit(
        "result",
        command="train-clicks",
        complete=training.finished,
        steps=training.step,
        seconds=round(training.seconds, 3),
        head=str(head) if training.finished else None,
    )
    if training.finished:
        console.print(f"{training.step} steps in {training.seconds / 60:.1f} min; head {head}", markup=False)
    else:
        console.print(f"stopped after step {training.step} of {recipe.steps}; go on with the same command and --resume")
    if training.stop_asked:
        raise typer.Exit(130)
