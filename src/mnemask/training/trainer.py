"""A training run on Lightning Fabric: one process or many, on CPU or GPU, resumable."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mnemask.datasets.clips import ClipSource
from mnemask.errors import InputError
from mnemask.model.checkpoints import save_model
from mnemask.model.stcn import STCN
from mnemask.training.board import Board
from mnemask.training.checkpoint import Done, forget_after, is_finite, load_run, save_run
from mnemask.training.clip_tracker import ClipTracker
from mnemask.training.data import Batch, Batches, load
from mnemask.training.losses import (
    EMA,
    bootstrapped_cross_entropy,
    can_fuse,
    make_optimizer,
    mean_iou,
    soft_dice,
)
from mnemask.training.recipes import Recipe

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 180
LOG_EVERY = 10  # steps; also how often processes agree on whether to save and stop
PICTURES_EVERY = 500


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a run is doing: the last step that was logged.

    Attributes:
        step: steps done.
        steps: of the whole run.
        loss: what is minimised.
        iou: mean IoU of the predicted masks on the training clips.
        rate: the learning rate.
        norm: of the gradient, before it is clipped.
        clips_per_second: since this start of the run, all processes together.
    """

    step: int
    steps: int
    loss: float
    iou: float
    rate: float
    norm: float
    clips_per_second: float


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What may differ from one start of a run to the next, without changing its result.

    Attributes:
        workers: processes beside each training process that draw clips ahead; 0 draws them in between.
        parts: gradient accumulation: number of parts of a step; more need less memory.
        minutes: stop and save after this time, to go on another day; None trains to the end.
        validate_every: steps between two validations.
    """

    workers: int = 0
    parts: int = 1
    minutes: float | None = None
    validate_every: int = 1000


class Training:
    """A run, new or resumed from `out/latest.safetensors`.

    Args:
        fabric: launched; says which devices, processes and precision.
        recipe: all hyper-parameters.
        source: what clips are drawn from.
        model: the weights to start from.
        out: folder of the run: `latest.safetensors`, `log.jsonl`, `board/` and, at the end, `model.safetensors`.
        options: what may differ from one start of the run to the next.
        validate: returns scores by name for a model, higher being better.
        branch_from: a run's file to go on from with its weights, their average and its moments where `out` holds no
            run; the steps are counted anew.
        origin: what the run is made of, in words by name, such as its data; a run that goes on with something else
            says so.

    Raises:
        InputError: the batch cannot be shared out, or `out` holds a run with other settings.
        CheckpointError: `out` or `branch_from` is a damaged run.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        source: ClipSource,
        model: STCN,
        out: Path,
        options: RunOptions = RunOptions(),
        validate: Callable[[STCN], dict[str, float]] | None = None,
        branch_from: Path | None = None,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        if recipe.batch % (fabric.world_size * options.parts):
            raise InputError(
                f"a batch of {recipe.batch} clips cannot be shared out to {fabric.world_size} processes in "
                f"{options.parts} parts each",
                "choose numbers that divide it",
            )
        self.fabric, self.recipe, self.out, self.options = fabric, recipe, out, options
        self.validate = validate
        self.origin = {f"its {name}": value for name, value in (origin or {}).items()}
        self.model = model.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained = {n: p for n, p in model.named_parameters() if not n.startswith(recipe.frozen or ("\0",))}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.trained)
        self.clips = ClipTracker(model, recipe.regularizer)
        optimizer = make_optimizer(recipe, self.trained, fused=can_fuse(fabric))
        self.clip_tracker, self.optimizer = fabric.setup(self.clips, optimizer)
        self.average = EMA(self.trained, recipe.ema)
        self.batches = Batches(source, recipe, options.parts, fabric.global_rank, fabric.world_size)
        self.step, self.seconds = 0, 0.0
        self.stop_asked = False
        if (out / "latest.safetensors").exists():
            self._take_up()
        elif branch_from is not None:
            load_run(branch_from, self.model, self.average.weights, self.optimizer.optimizer)
        if fabric.is_global_zero:
            # A run that ended before its first checkpoint leaves lines too.
            forget_after(out / "log.jsonl", self.step)
            forget_after(out / "validation.jsonl", self.step)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.recipe.steps

    def stop(self) -> None:
        """Asks the run to save and end after the step it is in."""
        self.stop_asked = True

    def run(self, on_step: Callable[[StepReport], None] = lambda report: None) -> None:
        """Trains to the end, or until `stop_asked` or `options.minutes` are over; saves either way."""
        begin = last = saved = time.monotonic()
        first_step = self.step
        pin = self.fabric.device.type == "cuda"
        batches = load(self.batches, self.step, self.options.workers, pin)
        with Board(self.out / "board", self.step, self.fabric.is_global_zero) as board:
            while not self.finished:
                logged = self.step == 0 or (self.step + 1) % LOG_EVERY == 0 or self.step + 1 == self.recipe.steps
                loss, norm, batch, probs = self.train_step(batches)
                self.step += 1
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                if logged:
                    done = (self.step - first_step) * self.recipe.batch
                    report = self._report(loss, norm, batch, probs, done / (now - begin))
                    self._log(report, board)
                    on_step(report)
                if self.step == 1 or self.step % PICTURES_EVERY == 0:
                    board.pictures(self.step, batch, probs)
                if self.validate and (self.step % self.options.validate_every == 0 or self.finished):
                    self.save()  # whatever comes of it
                    self._validate(board)
                    last = saved = time.monotonic()
                if logged or self.fabric.world_size == 1:
                    save, stop = self._decide(now - saved, now - begin)
                    if save or stop:
                        self.save()
                        saved = now
                    if stop:
                        return
        self.save()
        if self.fabric.is_global_zero:
            note = f"recipe {self.recipe.name}, {self.step} steps of {self.recipe.batch} clips"
            save_model(self.averaged_model(), self.out / "model.safetensors", note=note)
        self.fabric.barrier()

    def train_step(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor | None, Batch, Tensor]:
        """Does one update of the weights; returns its loss and gradient norm, and the last batch and probabilities."""
        recipe, parts = self.recipe, self.options.parts
        # What is random in a step (dropout) depends on the step alone, so that a resumed run repeats itself.
        torch.manual_seed(hash((recipe.seed, self.step, self.fabric.global_rank)))
        total = torch.zeros((), device=self.fabric.device)
        for part in range(parts):
            batch = next(batches).to(self.fabric.device)
            with self.fabric.no_backward_sync(self.clip_tracker, enabled=part + 1 < parts):
                self.clips.plan = recipe.plan(self.step, batch.frames.shape[1])
                probs = self.clip_tracker(batch.images(), batch.first_masks(), batch.valid)
                loss = self._loss(probs, batch) / parts
                self.fabric.backward(loss)
            total += loss.detach()
        norm = None
        if recipe.clip_norm is not None:
            norm = self.fabric.clip_gradients(
                self.clip_tracker, self.optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False
            )
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * group["factor"] * recipe.schedule.rate(self.step, recipe.steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.follow(self.trained, self.step)
        return total, norm, batch, probs.detach()

    def averaged_model(self) -> STCN:
        """Returns a copy of the network with the averaged weights, ready to track."""
        model = STCN(self.model.config)
        model.load_state_dict(self.model.state_dict() | self.average.weights)
        return model.to(self.fabric.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload, no-any-return]

    def save(self) -> None:
        """Writes the run as it stands, so that it can be resumed.

        Raises:
            InputError: the weights are no longer finite; what was written before stays.
            OutputError: the place cannot be written to.
        """
        # In every process (weights and moments are the same in all): otherwise the others would wait for the first.
        if not is_finite(self.model, self.average.weights, self.optimizer.optimizer):
            raise self._diverged("the weights are no longer finite")
        if self.fabric.is_global_zero:
            precision = self.fabric.strategy.precision.state_dict()
            done = Done(self.step, self.seconds, self._settings(), precision)
            save_run(self.out / "latest.safetensors", self.model, self.average.weights, self.optimizer.optimizer, done)
        self.fabric.barrier()

    def _loss(self, probs: Tensor, batch: Batch) -> Tensor:
        flat = probs.flatten(0, 1)
        truth, valid = batch.targets()
        if self.recipe.loss is not None:
            return self.recipe.loss(flat, truth, valid)
        loss = bootstrapped_cross_entropy(flat, truth, self.recipe.bootstrap.fraction(self.step))
        if self.recipe.dice:
            loss = loss + self.recipe.dice * soft_dice(flat, truth, valid)
        return loss

    def _report(
        self, loss: Tensor, norm: Tensor | None, batch: Batch, probs: Tensor, clips_per_second: float
    ) -> StepReport:
        value = float(loss)
        # Under float16 the gradient scaler leaves such steps out by itself.
        if value != value and not self.fabric.strategy.precision.state_dict():
            raise self._diverged(f"the loss is {value}")
        iou = mean_iou(probs.flatten(0, 1), *batch.targets())
        rate = self.optimizer.param_groups[-1]["lr"]
        size = float("nan") if norm is None else float(norm)
        return StepReport(self.step, self.recipe.steps, value, iou, rate, size, clips_per_second)

    def _diverged(self, what: str) -> InputError:
        saved = self.out / "latest.safetensors"
        go_on = f"go on with more precision from {saved}" if saved.exists() else "begin with more precision"
        return InputError(
            f"{what} after step {self.step}",
            f"{go_on}, or begin again with a lower learning rate than {self.recipe.learning_rate}",
        )

    def _log(self, report: StepReport, board: Board) -> None:
        if not self.fabric.is_global_zero:
            return
        entry = {field.name: getattr(report, field.name) for field in fields(report)}
        with (self.out / "log.jsonl").open("a") as log:
            known = {name: None if value != value else value for name, value in entry.items()}  # NaN is no JSON
            log.write(json.dumps(known | {"seconds": round(self.seconds, 1)}) + "\n")
        board.scalars(report.step, {name: entry[name] for name in ("loss", "iou", "rate", "norm", "clips_per_second")})

    def _validate(self, board: Board) -> None:
        if self.fabric.is_global_zero and self.validate:
            scores = self.validate(self.averaged_model())
            with (self.out / "validation.jsonl").open("a") as log:
                log.write(json.dumps({"step": self.step} | scores) + "\n")
            board.scalars(self.step, scores)
        self.fabric.barrier()

    def _decide(self, since_saved: float, since_begin: float) -> tuple[bool, bool]:
        """Whether to save and whether to stop, as the first process sees it: all must do the same."""
        over = self.options.minutes is not None and since_begin > 60 * self.options.minutes
        mine = (since_saved > CHECKPOINT_SECONDS, self.stop_asked or over)
        decision: tuple[bool, bool] = self.fabric.broadcast(mine)
        return decision

    def _settings(self) -> dict[str, str]:
        settings = {field.name: repr(getattr(self.recipe, field.name)) for field in fields(self.recipe)}
        return settings | {"network": repr(self.model.config)} | self.origin

    def _take_up(self) -> None:
        path = self.out / "latest.safetensors"
        done = load_run(path, self.model, self.average.weights, self.optimizer.optimizer)
        for name, value in self._settings().items():
            before = done.settings.get(name, "None")  # a run that is older than the field did without
            if name in self.origin and name in done.settings and before != value and self.fabric.is_global_zero:
                log.warning("the run in %s goes on, and %s: %s now, %s before", self.out, name, value, before)
            if name not in self.origin and before != value:
                raise InputError(
                    f"the run in {self.out} has {name} {before}, not {value}",
                    "give the same settings or another folder",
                )
        self.step, self.seconds = done.step, done.seconds
        if done.precision:
            self.fabric.strategy.precision.load_state_dict(dict(done.precision))
