"""A network tuned to one video before it is tracked: trained on moving copies of its annotated first frame."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch

from mnemask.datasets.clips import ClipShape, TrainingClip
from mnemask.datasets.first_frame import FirstFrameClips
from mnemask.errors import InputError
from mnemask.model import preprocess
from mnemask.model.checkpoints import in_precision
from mnemask.model.devices import own_modes
from mnemask.model.stcn import STCN, STRIDE
from mnemask.training.clip_tracker import ClipTracker, MemoryPlan
from mnemask.training.data import Batches, collate
from mnemask.training.losses import EMA, bootstrapped_cross_entropy, make_optimizer, mean_iou, soft_dice
from mnemask.training.recipes import Recipe, to_one_video
from mnemask.types import Frame, Picture, Prompts, validate_prompts

HELD_OUT = 5  # a number of its own, so that no clip is drawn that is trained on
NUM_HELD_OUT = 8
MOST_PIXELS = 320  # of a clip's side
MOST_OBJECTS = 3  # followed in a clip; of more, each clip has some
MOST_STEPS = 1_000_000  # where the time decides


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What an adaptation came to.

    Attributes:
        model: the adapted network; the one given where the adapted one was no better.
        kept: whether it is the adapted one.
        before: mean IoU of the network as given on held-out copies of the frame, 0 to 1.
        after: that of the adapted one.
        steps: updates that were made.
        seconds: that all took.
    """

    model: STCN
    kept: bool
    before: float
    after: float
    steps: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the network, as JSON holds it."""
        numbers = {"before": round(self.before, 4), "after": round(self.after, 4), "seconds": round(self.seconds, 1)}
        return {"kept": self.kept, "steps": self.steps, **numbers}


@own_modes()
def adapt(
    model: STCN,
    frame: Picture,
    masks: Prompts,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    short_side: int | None = 480,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, spent: None,
) -> Adaptation:
    """Returns a copy of a network that is tuned to the objects of one frame, and how it fares; `model` stays as it is.

    It is trained on copies of the frame in which the objects move, grow, bend and are hidden over the background,
    filled in behind them. The key encoder is frozen. Of the copies 8 are held out: unless the adapted network has a
    higher IoU on them than the given one, the given one is returned.

    Args:
        model: from `load_model`, with the engine "eager".
        frame: uint8 RGB: a Frame, a tensor [3 H W] or an array [H W 3].
        masks: of the objects, as `Tracker.step` takes them.
        steps: how many updates to make; then the result is the same each time. Or
        seconds: how long all may take, some 5 at least; the number of updates then depends on the machine.
        short_side: at which the video will be tracked, see `TrackerConfig`.
        seed: of the copies.
        on_step: is called after each update with their number and the seconds spent so far.

    Raises:
        InputError: not one of steps and seconds is given, or one is not above 0; the network runs on another engine;
            there are no objects, or all are too small to be trained on.
        FrameError: the frame is no picture.
        MaskError: a mask is empty or of another size.
    """
    begin = time.monotonic()
    check_length(steps, seconds)
    if type(model) is not STCN:
        raise InputError(f"a {type(model).__name__} cannot be adapted", "load the model with the engine eager")
    source = _source(Frame.from_picture(frame, 0), masks, short_side)
    size = min(MOST_PIXELS, min(source.labels.shape) // STRIDE * STRIDE)
    recipe = to_one_video(steps or MOST_STEPS, size, min(MOST_OBJECTS, len(source.parts)))
    shape = ClipShape(size, 3, recipe.max_objects)
    held_out = [source.draw(np.random.default_rng((HELD_OUT, seed, n)), shape) for n in range(NUM_HELD_OUT)]
    tuner = _Tuner(model, replace(recipe, seed=seed), source)
    before = tuner.score(held_out)
    scoring = time.monotonic() - begin
    end = inf if seconds is None else begin + seconds - scoring
    done = 0
    while done < recipe.steps and time.monotonic() < end:
        tuner.step(done)
        done += 1
        on_step(done, time.monotonic() - begin)
    tuner.take_average()
    after = tuner.score(held_out) if done else before
    kept = after > before
    return Adaptation(tuner.result() if kept else model, kept, before, after, done, time.monotonic() - begin)


def check_length(steps: int | None, seconds: float | None) -> None:
    """Raises InputError unless one of two ways to say how long to train is given, and it is above 0."""
    if (steps is None) == (seconds is None):
        raise InputError(f"steps is {steps} and seconds is {seconds}", "give one of them")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise InputError(f"steps is {steps!r}", "give a whole number from 1, such as 100")
    if seconds is not None and not 0 < seconds < inf:
        raise InputError(f"seconds is {seconds!r}", "give a number above 0, such as 60")


def parse_length(text: str) -> dict[str, Any]:
    """Returns steps or seconds, as `adapt` takes them, by what a user wrote: 100, or 60s.

    Raises:
        InputError: it is neither.
    """
    number = text.strip().removesuffix("s")
    try:
        length: dict[str, Any] = {"seconds": float(number)} if text.strip() != number else {"steps": int(number)}
        check_length(**{"steps": None, "seconds": None, **length})
    except (ValueError, InputError) as error:
        raise InputError(
            f"{text[:40]!r} is no length of an adaptation", "give seconds, such as 60s, or steps, such as 100"
        ) from error
    return length


def _source(frame: Frame, masks: Prompts, short_side: int | None) -> FirstFrameClips:
    given, _ = validate_prompts(masks, frame, torch.device("cpu"))
    if not given:
        raise InputError("there are no objects to adapt to", "give the mask of at least one")
    size = preprocess.working_size(frame.size, short_side)
    picture = preprocess.resize(frame.image.cpu().float(), size).round().clamp(0, 255).to(torch.uint8)
    labels = torch.zeros(size, dtype=torch.uint8)
    for label, mask in zip(range(1, 255), given.values(), strict=False):
        labels[preprocess.resize(mask[None].float(), size)[0] > 0.5] = label
    return FirstFrameClips(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), labels.numpy())


class _Tuner:
    """A copy of a network in training."""

    def __init__(self, model: STCN, recipe: Recipe, source: FirstFrameClips) -> None:
        self.given, self.recipe = model, recipe
        self.network = _copy(model)
        self.trained = {n: p for n, p in self.network.named_parameters() if not n.startswith(recipe.frozen)}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in self.trained)
        self.clips = ClipTracker(self.network)
        self.optimizer = make_optimizer(recipe, self.trained, fused=model.device.type == "cpu")
        self.average = EMA(self.trained, recipe.ema)
        self.batches = Batches(source, recipe, parts=recipe.batch)  # clip by clip, so that little memory is needed

    def step(self, step: int) -> None:
        """Makes one update."""
        recipe = self.recipe
        with torch.enable_grad():
            for part in range(recipe.batch):
                batch = self.batches[step * recipe.batch + part].to(self.given.device)
                self.clips.plan = recipe.plan(step, batch.frames.shape[1])
                with self._precision():
                    probs = self.clips(batch.images(), batch.first_masks(), batch.valid).flatten(0, 1).float()
                truth, valid = batch.targets()
                loss = bootstrapped_cross_entropy(probs, truth, recipe.bootstrap.fraction(step))
                ((loss + recipe.dice * soft_dice(probs, truth, valid)) / recipe.batch).backward()
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * group["factor"] * recipe.schedule.rate(step, recipe.steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.follow(self.trained, step)

    def take_average(self) -> None:
        """Makes the weights their average."""
        for name, weight in self.average.weights.items():
            self.trained[name].copy_(weight)

    def score(self, clips: list[TrainingClip]) -> float:
        """Returns the mean IoU of the network's masks on clips, 0 where its numbers are not finite."""
        self.clips.plan = MemoryPlan(kmn_sigma=self.given.kmn_sigma)
        scores = []
        for clip in clips:
            batch = collate([clip]).to(self.given.device)
            with self._precision():
                probs = self.clips(batch.images(), batch.first_masks(), batch.valid).flatten(0, 1)
            scores.append(mean_iou(probs, *batch.targets()) if bool(torch.isfinite(probs).all()) else 0.0)
        return sum(scores) / len(scores)

    def result(self) -> STCN:
        """Returns the network, ready to track, in the precision of the given one."""
        self.network.requires_grad_(False)
        return in_precision(self.network, self.given.device, self.given.dtype)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.given.dtype != torch.bfloat16:  # float16 would need its losses scaled
            return nullcontext()
        return torch.autocast(self.given.device.type, torch.bfloat16)


def _copy(model: STCN) -> STCN:
    """Returns the network in float32, with weights of its own."""
    with torch.device("meta"):
        copy = STCN(model.config)
    state = {name: weight.detach().to(torch.float32, copy=True) for name, weight in model.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    copied: STCN = copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied.eval()
