"""Training runs as started by the command line: on the requested devices, with validation, safe to interrupt."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from mnemask.datasets.annotated import AnnotatedVideo, check_masks, refuse_mixed, with_void
from mnemask.datasets.clips import ClipSource
from mnemask.datasets.published import DavisSequences
from mnemask.datasets.video_sets import open_video_folders
from mnemask.errors import InputError
from mnemask.evaluation.benchmark import only_first_masks
from mnemask.evaluation.runner import evaluate
from mnemask.io.atomic import make_folder, remove_left_overs
from mnemask.io.stop_signals import StopSignals
from mnemask.io.written import Written
from mnemask.model.checkpoints import key_encoder_id
from mnemask.model.click_head import read_click_head
from mnemask.model.devices import choose_device, preferred_dtype
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker
from mnemask.training.click_data import ClickPictures
from mnemask.training.click_trainer import ClickRecipe, ClickReport, ClickTraining
from mnemask.training.recipes import Recipe
from mnemask.training.run import R, TrainingRun
from mnemask.training.trainer import RunOptions, StepReport, Training

log = logging.getLogger(__name__)

CLICK_FILES = ("latest.safetensors", "clicks.safetensors", "log.jsonl")
RUN_FILES = ("latest.safetensors", "model.safetensors", "log.jsonl", "validation.jsonl")
# The other processes wait while the first one validates, which by default may take only 30 minutes.
_LONGEST_WAIT = timedelta(days=7)
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices and precision of a run.

    Attributes:
        accelerator: "auto" for GPUs if there are any; or "cpu", "cuda", "mps".
        devices: number of GPUs, or of processes on the CPU, per machine.
        nodes: number of machines. Under torchrun, its own numbers apply.
        precision: a name in `PRECISIONS`, or "auto": bfloat16 if the processor computes in it.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"

    def fabric(self) -> Fabric:
        """Returns Fabric with launched processes; on the CPU the cores are divided among them.

        Raises:
            InputError: there is no such device.
        """
        accelerator = choose_device(None if self.accelerator == "auto" else self.accelerator).type
        if accelerator == "cpu" and self.devices > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.devices))
        precision = self.precision
        if precision == "auto":
            precision = str(preferred_dtype(torch.device(accelerator))).removeprefix("torch.")
        several = self.devices * self.nodes > 1 or "TORCHELASTIC_RUN_ID" in os.environ
        strategy = DDPStrategy(timeout=_LONGEST_WAIT) if several else "auto"
        fabric = Fabric(
            accelerator=accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=strategy,
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
        )
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
        fabric.launch()
        return fabric


def launch(
    recipe: Recipe,
    open_source: Callable[[], ClipSource],
    make_model: Callable[[], STCN],
    out: Path,
    *,
    hardware: Hardware = Hardware(),
    options: RunOptions = RunOptions(),
    resume: bool = False,
    branch_from: Path | None = None,
    validate: Callable[[STCN], dict[str, float]] | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    origin: Mapping[str, str] | None = None,
) -> Training:
    """Trains until the end or until interrupted (SIGINT, SIGTERM), and returns the run in its last state.

    Args:
        recipe: all hyper-parameters.
        open_source: function that opens the training data.
        make_model: function that makes the network to start from; resuming or branching off replaces its weights.
        out: folder of the run.
        hardware: devices and precision.
        options: options that may differ between starts of the run.
        resume: whether to continue the run in `out`, if there is one; if False, a run there is an error.
        branch_from: a run's `latest.safetensors` to continue from in a new run, instead of the weights of `make_model`.
        validate: function that returns a model's scores.
        on_step: callback for the report of each logged step, on the first process only.
        origin: what the run was made from, see `Training`.

    Raises:
        InputError: the data or the settings cannot be used, or `out` contains a run.
        OutputError: `out` cannot be created.
    """
    if not resume and "LOCAL_RANK" not in os.environ:
        _refuse_begun(out)
    make_folder(out)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        _own(out, RUN_FILES)
    source = open_source()
    fabric = hardware.fabric()
    torch.manual_seed(recipe.seed)
    training = Training(fabric, recipe, source, make_model(), out, options, validate, branch_from, origin)
    _to_the_end(training, on_step)
    return training


def launch_clicks(
    recipe: ClickRecipe,
    data: Path,
    model: STCN,
    out: Path,
    *,
    accelerator: str = "auto",
    minutes: float | None = None,
    resume: bool = False,
    weights: Path | None = None,
    on_step: Callable[[ClickReport], None] = lambda report: None,
) -> ClickTraining:
    """Trains until the end or until interrupted (SIGINT, SIGTERM), and returns the run in its last state.

    Args:
        recipe: all hyper-parameters.
        data: folder with `static/NAME/{images,masks}`, `video_train/SET/NAME/{frames,masks}`, or both.
        model: network with the key encoder that the head is for.
        out: folder of the run.
        accelerator: "auto" for a GPU if there is one; or "cpu", "cuda", "mps".
        minutes: time after which the run saves and stops; None trains to the end.
        resume: whether to continue the run in `out`, if there is one; if False, a run there is an error.
        weights: file of a head to start from, which may be trained for another key encoder; None for random weights.
        on_step: callback for the report of each logged step.

    Raises:
        InputError: the data or the settings cannot be used, or `out` contains a run.
        CheckpointError: `weights` is not a click head.
        OutputError: `out` cannot be created.
    """
    if not resume:
        _refuse_begun(out)
    start, trained_for = (None, "") if weights is None else read_click_head(weights)
    if start is not None and trained_for != (wanted := key_encoder_id(model)):
        log.warning(
            "the weights of %s were trained for the key encoder %s; this run adapts them to %s",
            weights,
            trained_for[:12],
            wanted[:12],
        )
    pictures = ClickPictures(data)
    make_folder(out)
    _own(out, CLICK_FILES)
    training = ClickTraining(Hardware(accelerator).fabric(), recipe, pictures, model, out, minutes, start)
    _to_the_end(training, on_step)
    return training


def _refuse_begun(out: Path) -> None:
    """Raises InputError if a folder holds a run."""
    if (out / "latest.safetensors").exists():
        raise InputError(f"{out} already holds a run", "continue it with --resume, or give another folder")


def _to_the_end(training: TrainingRun[R], on_step: Callable[[R], None]) -> None:
    """Trains until the end or until interrupted, and notes the exit code; only the first process reports steps."""
    with StopSignals(training.stop) as asked:
        training.run(on_step if training.fabric.is_global_zero else lambda report: None)
    training.exit_code = asked.exit_code


def _own(out: Path, names: Sequence[str]) -> None:
    """Claims the files of a run; raises OutputError if there is no run and other files have their names."""
    remove_left_overs(out)
    files, written = [out / name for name in names], Written(out)
    if not (out / "latest.safetensors").exists():
        written.refuse_foreign(*files)
    for path in files:
        written.claim(path)


class Validation:
    """Scores models on videos with masks, with the default policy.

    Args:
        root: DAVIS (the validation set of 2017 if its list exists, otherwise of 2016), or a folder of videos,
            `NAME/{frames,masks}`.
        num_frames: number of frames of each video, from the first mask on; None for all.

    Raises:
        InputError: there are no such videos, or they cannot be scored.
        FrameError, MaskError: a mask cannot be used, or does not fit its frame, see `check_masks`.
    """

    def __init__(self, root: Path, num_frames: int | None = None) -> None:
        if (root / "JPEGImages").is_dir():
            year = 2017 if (root / "ImageSets" / "2017" / "val.txt").exists() else 2016
            videos: list[AnnotatedVideo] = list(DavisSequences(root, year, "val"))
        else:
            videos = open_video_folders(root)
        refuse_mixed(videos, "validate on one kind (--validate), or save all masks with ids")
        self.videos = []
        for video in (beginning(video, num_frames) for video in videos):
            if len(video.masks) < 3:
                raise InputError(
                    f"{video.name} cannot be scored: it has masks of {len(video.masks)} frames",
                    "give 3 or more, since the first and the last are not scored, or leave the video out (--validate)",
                )
            check_masks(video)
            self.videos.append(with_void(video))
            only_first_masks(self.videos[-1])

    def __call__(self, model: STCN) -> dict[str, float]:
        """Returns J, F and their mean, in percent."""
        report = evaluate(lambda: Tracker(model), self.videos).report
        scores = {"J": report.region.mean, "F": report.boundary.mean, "J&F": report.j_and_f}
        return {f"validation/{name}": round(100 * value, 2) for name, value in scores.items()}


def beginning(video: AnnotatedVideo, num_frames: int | None) -> AnnotatedVideo:
    """Returns the first `num_frames` frames of a video from its first mask on, or the whole video if None."""
    if num_frames is None:
        return video
    first = video.first_annotated
    masks = {index - first: path for index, path in video.masks.items() if first <= index < first + num_frames}
    return replace(video, frames=video.frames[first : first + num_frames], masks=masks)
