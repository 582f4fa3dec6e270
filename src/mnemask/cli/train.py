"""`mnemask train`, `finetune` and `train-clicks`: train weights on frames and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnemask as mm
from mnemask.cli.app import command, console, locks_out
from mnemask.cli.options import Precision
from mnemask.cli.output import emit
from mnemask.cli.progress import Show, progress

if TYPE_CHECKING:
    from mnemask.datasets.clips import ClipSource
    from mnemask.model.stcn import STCN
    from mnemask.training.click_trainer import ClickTraining
    from mnemask.training.recipes import Recipe
    from mnemask.training.trainer import StepReport, Training


class RecipeName(StrEnum):
    """Names of the recipes in `mnemask.training.recipes`."""

    static = "static"
    main = "main"
    compact = "compact"
    real_video = "real-video"


class Size(StrEnum):
    """The networks."""

    compact = "compact"
    stcn = "stcn"


Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run: checkpoints, log, curves, weights.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in OUT, if there is one.")]
Accelerator = Annotated[str, typer.Option(help="Device type: auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(min=1, help="Number of GPUs, or of processes on the CPU, per machine.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes per device that prepare clips ahead.")]
Parts = Annotated[int, typer.Option(min=1, help="Accumulate the gradients of a step over N parts, to save memory.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Minutes until it stops and saves; --resume continues it.")]
ValidateRoot = Annotated[
    Path | None,
    typer.Option("--validate", help="Data to score on while training: DAVIS, or a folder of NAME/{frames,masks}."),
]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Steps between scorings.")]
ValidateFrames = Annotated[int | None, typer.Option(min=2, help="Score only the first N frames of each video.")]


@command
@locks_out
def train(
    recipe: Annotated[
        RecipeName,
        typer.Argument(
            help="`static` and `main`: the thesis's two stages. `compact`: starts from ImageNet, on video made from "
            "photographs. `real-video`: continues `compact`, on real video."
        ),
    ],
    out: Out,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER of a training set, such as DUTS-TR=/data/DUTS. Repeatable. For `real-video`: one FOLDER."
        ),
    ] = None,
    size: Annotated[Size, typer.Option(help="Network to train.")] = Size.compact,
    weights: Annotated[
        str | None, typer.Option(help="Weights to start from: `compact`, or a checkpoint of mnemask or STCN.")
    ] = None,
    imagenet: Annotated[
        list[Path] | None,
        typer.Option(help="ImageNet weights to start from: torchvision's ResNet-18, for stcn also ResNet-50."),
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option(help="Another run's latest.safetensors to start from: weights, their average, optimizer."),
    ] = None,
    decay: Annotated[
        bool, typer.Option("--decay", help="Finish a branch of a trunk: decay the learning rate over --steps.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="For an ablation of real-video, leave out real, zoom, pasted, turning, limbs, screens, new-looks, "
            "memory, kmn-sigma or length. Repeatable."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; schedules scale with them. [default: the recipe's]")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips per step. [default: the recipe's]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate. [default: the recipe's]")] = None,
    clip_frames: Annotated[int | None, typer.Option(min=2, help="Frames per clip. [default: the recipe's]")] = None,
    capacity: Annotated[
        float | None,
        typer.Option(
            help="Capacity of a clip's memory in frames, at least 1; the rest is evicted. Below --clip-frames less 1, "
            "since a clip's last frame is not written."
        ),
    ] = None,
    regularizer: Annotated[
        str | None,
        typer.Option(
            help="Replaces the softmax over tokens, in training only. From the thesis (chapter 4): `dropout`, "
            "`'dropout(q=0.3, after_softmax=True)'`, `'reallocation(literal)'`, `(ascending)` or `(\"post-softmax\")`; "
            "or your own: `file.py:Class`, `package.module:Class`, or an installed name."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Your own loss in place of cross-entropy and dice: `file.py:function`."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed. [default: the recipe's]")] = None,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    precision: Annotated[Precision, typer.Option(help="Precision of the convolutions; keys stay float32.")] = Precision[
        "auto"
    ],
    workers: Workers = 1,
    parts: Parts = 1,
    minutes: Minutes = None,
    validate: ValidateRoot = None,
    validate_every: ValidateEvery = 1000,
    validate_frames: ValidateFrames = None,
) -> None:
    """Train a network. A run that ends early, for any reason, continues with `--resume` as if it had not stopped.

    **Examples**

    `mnemask train static --size stcn --imagenet resnet50.pth --imagenet resnet18.pth --data DUTS-TR=/data/DUTS
    --data BIG=/data/BIG -o stage1  # the thesis's first stage`

    `mnemask train main --size stcn --weights stage1/model.safetensors
    --data YouTube-VOS-train=/data/YouTube-VOS --data DAVIS-2017-train=/data/DAVIS --devices 2 -o stage2  # the second`

    `mnemask train compact --weights compact --data composites=/data --validate /data/DAVIS -o run`

    `mnemask train real-video --weights compact --data /data -o trunk --resume  # a trunk of any length`

    `mnemask train real-video --data /data --branch trunk/latest.safetensors --decay --steps 2000
    -o candidate  # finished weights from the trunk's current state`

    `tensorboard --logdir RUN/board  # shows the progress`

    `mnemask segment street.mp4 --mask first.png -o out --model RUN/model.safetensors  # uses the weights`
    """
    need_training()
    from mnemask.training import recipes
    from mnemask.training.custom import LOSSES, REGULARIZERS
    from mnemask.training.data import code_of, training_data
    from mnemask.training.init import init_from_imagenet, init_from_weights
    from mnemask.training.launch import Hardware, Validation
    from mnemask.training.trainer import RunOptions

    chosen = recipes.RECIPES[recipe.value](steps) if steps else recipes.RECIPES[recipe.value]()
    for ingredient in without or []:
        chosen = recipes.without(chosen, ingredient)
    if decay:
        if steps is None:
            raise mm.InputError("--decay needs --steps", "give --steps, 20 to 25 % of the trunk's")
        chosen = recipes.decayed(chosen, steps)
    chosen = recipes.customized(
        chosen,
        clip_frames,
        capacity,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        regularizer=None if regularizer is None else REGULARIZERS.named(regularizer, own_code=True),
        loss=None if loss is None else LOSSES.named(loss, own_code=True),
    )
    if weights and imagenet:
        raise mm.InputError("--weights and --imagenet both give weights to start from", "give one of them")
    if branch and (weights or imagenet):
        raise mm.InputError("--branch and --weights or --imagenet both give weights to start from", "give one of them")
    begins = not (weights or imagenet or branch or (resume and (out / "latest.safetensors").exists()))
    if begins and chosen.frozen:
        raise mm.InputError(
            f"recipe {recipe.value} trains only a part of the key encoder, and no weights are given for the rest",
            "give --weights compact to continue from the package's weights, --imagenet with ResNet-18, or --branch",
        )
    _run(
        "train",
        chosen,
        training_data(chosen, data or []),
        lambda: init_from_weights(weights, size) if weights else init_from_imagenet(size, imagenet or []),
        out,
        hardware=Hardware(accelerator, devices, nodes, precision.value),
        options=RunOptions(workers, parts, minutes, validate_every),
        resume=resume,
        branch_from=branch,
        origin={
            "data": ", ".join(_placed(each) for each in data or []),
            "data's code": code_of(chosen, data or []),
            "first weights": ", ".join(_placed(str(each)) for each in (branch or weights, *(imagenet or ())) if each),
        },
        validate=None if validate is None else Validation(validate, validate_frames),
    )


@command
@locks_out
def finetune(
    videos: Annotated[
        Path, typer.Argument(help="Your video as frames/ and masks/, or several as NAME/{frames,masks}.")
    ],
    out: Out,
    weights: Annotated[str, typer.Option(help="Weights to start from: `compact`, or a checkpoint.")] = "compact",
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 400,
    batch: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-5,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    workers: Workers = 1,
    parts: Parts = 1,
    minutes: Minutes = None,
    validate: ValidateRoot = None,
    validate_every: ValidateEvery = 100,
    validate_frames: ValidateFrames = None,
) -> None:
    """Adapt weights to your own kind of video. Not all frames need masks.

    A black and white mask is one object; in others, palette indices or grey levels are ids, and 255 is void. Clicks
    work with the new weights too, since the key encoder is not changed.

    **Examples**

    `mnemask finetune clips/ -o tuned --validate held-back/  # trains, and scores on other videos`

    `mnemask segment video.mp4 --mask first.png -o out --model tuned/model.safetensors  # uses the new weights`

    Hold some videos back for `--validate`: fine-tuning on few frames can make masks in others worse.
    """
    need_training()
    from mnemask.training import recipes
    from mnemask.training.data import open_own_videos
    from mnemask.training.init import init_from_weights
    from mnemask.training.launch import Hardware, Validation
    from mnemask.training.trainer import RunOptions

    chosen = replace(recipes.finetune(steps), batch=batch, learning_rate=learning_rate)
    _run(
        "finetune",
        chosen,
        lambda: open_own_videos(videos, chosen.gap.max_gap(0)),
        lambda: init_from_weights(weights),
        out,
        hardware=Hardware(accelerator, devices),
        options=RunOptions(workers, parts, minutes, validate_every),
        resume=resume,
        origin={"data": _placed(str(videos)), "first weights": _placed(weights)},
        validate=None if validate is None else Validation(validate, validate_frames),
    )


@command
@locks_out
def train_clicks(
    data: Annotated[
        Path,
        typer.Argument(help="Folder with static/NAME/{images,masks}, video_train/SET/NAME/{frames,masks}, or both."),
    ],
    out: Out,
    model: Annotated[
        str, typer.Option("--model", help="Model to train the head for: `compact`, or a checkpoint.")
    ] = "compact",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Head to start from: `compact` (the package's) or a file, even if trained for another key encoder, "
            "since it adapts in fewer steps than a new one. [default: random weights]"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps. [default: 2000; with --weights, 800]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    minutes: Minutes = None,
) -> None:
    """Train the head that makes masks from clicks, with simulated clicks; the model itself is not changed.

    A head fits one key encoder: after training a model, train its head too.

    **Examples**

    `mnemask train-clicks DATA -o run --model model.safetensors  # writes run/clicks.safetensors`

    `mnemask train-clicks DATA -o run --model model.safetensors
    --weights compact  # takes less than half the time, if the model was trained from compact`
    """
    need_training()
    from mnemask.model.click_head import packaged_click_head
    from mnemask.training.click_trainer import ClickRecipe, ClickReport
    from mnemask.training.launch import launch_clicks

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
    say_how_it_ended("train-clicks", training, recipe.steps, head=out / "clicks.safetensors")


def _run(
    command: str,
    recipe: Recipe,
    open_data: Callable[[], ClipSource],
    make_model: Callable[[], STCN],
    out: Path,
    **how: Any,
) -> None:
    """Trains, shows the progress, and reports how it ended; `how` holds further arguments of `launch`."""
    from mnemask.training.launch import launch

    with progress() as show:
        training = launch(recipe, open_data, make_model, out, on_step=lambda report: show_step(show, report), **how)
    if training.fabric.is_global_zero:
        say_how_it_ended(command, training, recipe.steps, weights=out / "model.safetensors")


def _placed(data: str) -> str:
    """Returns NAME=FOLDER, or a path, with the path made absolute; a word that is not a path is not changed."""
    name, equals, place = data.rpartition("=")
    return f"{name}{equals}{Path(place).resolve() if Path(place).exists() else place}"


def need_training() -> None:
    """Raises MissingExtraError, with what to install, if training cannot be imported."""
    from mnemask.errors import missing_extra

    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise missing_extra("training needs Lightning Fabric", "train") from error


def show_step(show: Show, report: StepReport) -> None:
    """Shows the progress of a training run."""
    text = (
        f"step {report.step}/{report.steps} · loss {report.loss:.3f} · IoU {report.iou:.3f} · "
        f"{report.clips_per_second:.1f} clips/s"
    )
    per_second = round(report.clips_per_second, 3)
    show(report.step, report.steps, text, unit="steps", loss=report.loss, iou=report.iou, clips_per_second=per_second)


def say_how_it_ended(name: str, training: Training | ClickTraining, steps: int, **files: Path) -> None:
    """Reports where the trained weights are, or how to resume."""
    done = {what: str(path) if training.finished else None for what, path in files.items()}
    seconds = round(training.seconds, 3)
    emit("result", command=name, complete=training.finished, steps=training.step, seconds=seconds, **done)
    if training.finished:
        where = ", ".join(f"{what} {path}" for what, path in done.items())
        console.print(f"{training.step} steps in {training.seconds / 60:.1f} min; {where}", markup=False)
    else:
        console.print(f"stopped after step {training.step} of {steps}; resume with the same command and --resume")
    if training.exit_code:
        raise typer.Exit(training.exit_code)
