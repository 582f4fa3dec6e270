"""`mnemask train`, `finetune` and `train-clicks`: from frames and masks to weights."""

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
    """The recipes of `mnemask.training.recipes`."""

    static = "static"
    main = "main"
    compact = "compact"
    real_video = "real-video"


class Size(StrEnum):
    """Networks."""

    compact = "compact"
    stcn = "stcn"


Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the run: checkpoints, log, curves, weights.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, if there is one.")]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, typer.Option(min=1, help="GPUs, or processes on the CPU, of each machine.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that draw clips ahead, for each device.")]
Parts = Annotated[int, typer.Option(min=1, help="Add up the gradients of a step over N parts: needs less memory.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop and save after so long; go on later with --resume.")]
ValidateRoot = Annotated[
    Path | None, typer.Option("--validate", help="Score on these while training: DAVIS, or NAME/{frames,masks}.")
]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Steps between scorings.")]
ValidateFrames = Annotated[int | None, typer.Option(min=2, help="Score the first N frames of each video only.")]


@command
@locks_out
def train(
    recipe: Annotated[
        RecipeName,
        typer.Argument(
            help="`static`, `main`: the thesis's stages. `compact`: photographs made into video, from ImageNet. "
            "`real-video` continues `compact` on real video."
        ),
    ],
    out: Out,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER of a training set, such as DUTS-TR=/data/DUTS. Repeatable. `real-video` wants one FOLDER."
        ),
    ] = None,
    size: Annotated[Size, typer.Option(help="Which network.")] = Size.compact,
    weights: Annotated[
        str | None, typer.Option(help="Start from these: `compact`, or a checkpoint of mnemask or STCN.")
    ] = None,
    imagenet: Annotated[
        list[Path] | None, typer.Option(help="Start from ImageNet ResNets (torchvision's 18, and 50 for stcn).")
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option(help="Start from another run's latest.safetensors: weights, their average, the optimizer."),
    ] = None,
    decay: Annotated[
        bool, typer.Option("--decay", help="Decay the learning rate over --steps to finish a branch of a trunk.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Of real-video: real, zoom, pasted, turning, limbs, screens, new-looks, memory, kmn-sigma or length, "
            "for an ablation."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; schedules scale with it. [default: the recipe's]")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips in a step. [default: the recipe's]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="[default: the recipe's]")] = None,
    clip_frames: Annotated[int | None, typer.Option(min=2, help="Frames in a clip. [default: the recipe's]")] = None,
    capacity: Annotated[
        float | None,
        typer.Option(help="Frames that a clip's memory holds, fewer than --clip-frames; the rest is evicted."),
    ] = None,
    regularizer: Annotated[
        str | None,
        typer.Option(
            help="What weighs tokens in place of the softmax, in training only: the thesis's (chapter 4) `dropout`, "
            "`'dropout(q=0.3, after_softmax=True)'`, `'reallocation(literal)'`, `(ascending)` or `(\"post-softmax\")`; "
            "or your own: `file.py:Class`, `package.module:Class`, an installed name."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="What is minimised in place of cross-entropy and dice, your own: `file.py:function`."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="[default: the recipe's]")] = None,
    resume: Resume = False,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Annotated[Precision, typer.Option(help="Of the convolutions; keys stay float32.")] = Precision["auto"],
    workers: Workers = 1,
    parts: Parts = 1,
    minutes: Minutes = None,
    validate: ValidateRoot = None,
    validate_every: ValidateEvery = 1000,
    validate_frames: ValidateFrames = None,
) -> None:
    """Train a network. A run that ends early, for any reason, goes on with `--resume` as if nothing had happened.

    **Examples**

    `mnemask train static --size stcn --imagenet resnet50.pth --imagenet resnet18.pth --data DUTS-TR=/data/DUTS
    --data BIG=/data/BIG -o stage1  # the thesis's first stage`

    `mnemask train main --size stcn --weights stage1/model.safetensors
    --data YouTube-VOS-train=/data/YouTube-VOS --data DAVIS-2017-train=/data/DAVIS --devices 2 -o stage2  # the second`

    `mnemask train compact --weights compact --data composites=/data --validate /data/DAVIS -o run`

    `mnemask train real-video --weights compact --data /data -o trunk --resume  # for as long as you like`

    `mnemask train real-video --data /data --branch trunk/latest.safetensors --decay --steps 2000
    -o candidate  # whenever weights are wanted`

    `tensorboard --logdir RUN/board  # watch it`

    `mnemask segment street.mp4 --mask first.png -o out --model RUN/model.safetensors  # use it`
    """
    need_training()
    from mnemask.training import recipes
    from mnemask.training.custom import LOSSES, REGULARIZERS
    from mnemask.training.data import training_data
    from mnemask.training.init import init_from_imagenet, init_from_weights
    from mnemask.training.launch import Hardware, Validation
    from mnemask.training.trainer import RunOptions

    chosen = recipes.RECIPES[recipe.value](steps) if steps else recipes.RECIPES[recipe.value]()
    for ingredient in without or []:
        chosen = recipes.without(chosen, ingredient)
    if decay:
        if steps is None:
            raise mm.InputError("--decay needs to know how long", "give --steps, 20 to 25 % of the trunk's")
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
        raise mm.InputError("--weights and --imagenet both say where to start", "give one of them")
    if branch and (weights or imagenet):
        raise mm.InputError("--branch and --weights or --imagenet both say where to start", "give one of them")
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
    weights: Annotated[str, typer.Option(help="Start from these: `compact`, or a checkpoint.")] = "compact",
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 400,
    batch: Annotated[int, typer.Option(min=1, help="Clips in a step.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 3e-5,
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

    A mask of black and white is one object; otherwise its palette or its grey levels are ids, and 255 is void. Clicks
    work with the new weights too: the key encoder stays as it is.

    **Examples**

    `mnemask finetune clips/ -o tuned --validate held-back/`

    `mnemask segment video.mp4 --mask first.png -o out --model tuned/model.safetensors  # uses the new weights`

    Hold some videos back and give them to `--validate`: fine-tuning on few frames can harm other ones.
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

    **Examples**

    `mnemask train-clicks DATA -o run --model model.safetensors  # leaves run/clicks.safetensors`

    `mnemask train-clicks DATA -o run --model model.safetensors
    --weights compact  # in less than half the time, if the key encoder was trained further`
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
    """Trains, shows how that goes, and says how it ended; `launch` says what it takes."""
    from mnemask.training.launch import launch

    with progress() as show:
        training = launch(recipe, open_data, make_model, out, on_step=lambda report: show_step(show, report), **how)
    if training.fabric.is_global_zero:
        say_how_it_ended(command, training, recipe.steps, weights=out / "model.safetensors")


def _placed(data: str) -> str:
    """Returns NAME=FOLDER, or a path, with the path in full; a word that is no path as it is."""
    name, equals, place = data.rpartition("=")
    return f"{name}{equals}{Path(place).resolve() if Path(place).exists() else place}"


def need_training() -> None:
    """Says what to install where training cannot be imported."""
    from mnemask.errors import missing_extra

    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise missing_extra("training needs Lightning Fabric", "train") from error


def show_step(show: Show, report: StepReport) -> None:
    """Shows how a run is doing."""
    text = (
        f"step {report.step}/{report.steps} · loss {report.loss:.3f} · IoU {report.iou:.3f} · "
        f"{report.clips_per_second:.1f} clips/s"
    )
    per_second = round(report.clips_per_second, 3)
    show(report.step, report.steps, text, unit="steps", loss=report.loss, iou=report.iou, clips_per_second=per_second)


def say_how_it_ended(name: str, training: Training | ClickTraining, steps: int, **files: Path) -> None:
    """Says where what was trained is, or how to go on."""
    done = {what: str(path) if training.finished else None for what, path in files.items()}
    seconds = round(training.seconds, 3)
    emit("result", command=name, complete=training.finished, steps=training.step, seconds=seconds, **done)
    if training.finished:
        where = ", ".join(f"{what} {path}" for what, path in done.items())
        console.print(f"{training.step} steps in {training.seconds / 60:.1f} min; {where}", markup=False)
    else:
        console.print(f"stopped after step {training.step} of {steps}; go on with the same command and --resume")
    if training.stop_asked:
        raise typer.Exit(130)
