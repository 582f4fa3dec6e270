"""A training of the click head as the command line starts it: checked first, stopped without loss."""

import logging
from collections.abc import Callable
from pathlib import Path

from mnemask.errors import InputError, OutputError
from mnemask.io.atomic import remove_left_overs
from mnemask.io.stop_signals import StopSignals
from mnemask.model.click_head import key_encoder_id, read_click_head
from mnemask.model.stcn import STCN
from mnemask.training.click_data import ClickPictures
from mnemask.training.click_trainer import ClickRecipe, ClickReport, ClickTraining
from mnemask.training.launch import Hardware

log = logging.getLogger(__name__)


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
    """Trains until the end or until it is interrupted (SIGINT, SIGTERM), and returns the run as it then stands.

    Args:
        recipe: all hyper-parameters.
        data: folder with `static/NAME/{images,masks}`, `video_train/SET/NAME/{frames,masks}`, or both.
        model: the network whose key encoder the head is for.
        out: folder of the run.
        accelerator: "auto" takes a GPU where there is one; or "cpu", "cuda", "mps".
        minutes: stop and save after this time; None trains to the end.
        resume: take up the run in `out`, if there is one; otherwise a run there is an error.
        weights: a head to begin with, though it was trained for another key encoder; None begins with random numbers.
        on_step: is told how it goes.

    Raises:
        InputError: something of the data or the settings cannot be used, or `out` holds a run.
        CheckpointError: `weights` is no click head.
        OutputError: `out` cannot be made.
    """
    if not resume and (out / "latest.safetensors").exists():
        raise InputError(f"{out} holds a run already", "go on with it by --resume, or give another folder")
    start, trained_for = (None, "") if weights is None else read_click_head(weights)
    if start is not None and trained_for != (wanted := key_encoder_id(model)):
        log.warning(
            "the weights of %s were trained for the key encoder %s; this run adapts them to %s",
            weights,
            trained_for[:12],
            wanted[:12],
        )
    pictures = ClickPictures(data)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror})", "give a folder that can be written to") from error
    remove_left_overs(out)
    training = ClickTraining(Hardware(accelerator).fabric(), recipe, pictures, model, out, minutes, start)
    with StopSignals(training.stop):
        training.run(on_step)
    return training
