"""The base of all training runs: state, storage, checkpoints and termination."""

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mnemask.errors import InputError, MnemaskError
from mnemask.training.checkpoint import TrainingState, forget_after, is_finite, load_run, save_run
from mnemask.training.losses import EMA

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 180
LOGS = ("log.jsonl", "validation.jsonl")
LOG_EVERY = 10  # steps; also how often processes agree on whether to save and stop


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Progress of a run at the last logged step.

    Attributes:
        step: number of completed steps.
        loss: value of the loss.
    """

    step: int
    loss: float


R = TypeVar("R", bound=TrainingReport)


class TrainingRun(ABC, Generic[R]):
    """A run, new or resumed from `out/latest.safetensors`; a subclass defines what is trained and how.

    Args:
        fabric: launched Fabric, which determines devices, processes and precision.
        recipe: all hyper-parameters, a dataclass with `steps`, `batch`, `learning_rate` and `ema`.
        out: folder of the run.
        network: module that is saved as a whole.
        trained: the parameters of `network` that are trained, by name.
        module: module that is called in each step, with `network` as a part.
        optimizer: optimizer of the trained parameters.
        minutes: time after which the run saves and stops, to be resumed later; None trains to the end.
        fixed: further settings, as text by name, that must be the same when the run is resumed.
        origin: facts about the run, as text by name, that may change when it is resumed; a change is logged. An empty
            text is a fact that was not given: a resumed run keeps what it had.
        branch_from: a run's file to continue from with its weights, their average and the optimizer's moments if `out`
            contains no run; steps are counted from 0.

    Attributes:
        module: `module`, set up by Fabric.
        average: average of the trained parameters.
        step: number of completed steps.
        seconds: time spent on them, over all starts of the run.

    Raises:
        InputError: `out` contains a run with other settings.
        CheckpointError: the run in `out` or `branch_from` is damaged.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Any,
        out: Path,
        *,
        network: nn.Module,
        trained: Mapping[str, nn.Parameter],
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        minutes: float | None,
        fixed: Mapping[str, str],
        origin: Mapping[str, str] = MappingProxyType({}),
        branch_from: Path | None = None,
    ) -> None:
        self.fabric, self.out, self.minutes, self.network = fabric, out, minutes, network
        self._batch, self._learning_rate = recipe.batch, recipe.learning_rate
        self._steps: int = recipe.steps
        self._fixed = {field.name: repr(getattr(recipe, field.name)) for field in fields(recipe)} | dict(fixed)
        self._origin = dict(origin)
        self._defaults = {field.name: repr(field.default) for field in fields(recipe) if field.default is not MISSING}
        self.trained = trained
        self.module, self.optimizer = fabric.setup(module, optimizer)
        self.average = EMA(trained, recipe.ema)
        self.step, self.seconds = 0, 0.0
        self.stop_asked = False
        self.exit_code = 0  # that a shell expects of a process which a signal ended, 0 without one
        if (out / "latest.safetensors").exists():
            self._take_up()
        elif branch_from is not None:
            load_run(branch_from, network, self.average.weights, self.optimizer.optimizer)
        if fabric.is_global_zero:
            for path in (out / name for name in LOGS):  # a run that ended before its first checkpoint leaves lines too
                if path.exists():
                    forget_after(path, self.step)

    @abstractmethod
    def advance(self) -> None:
        """Performs one update of the weights."""

    @abstractmethod
    def report(self, per_second: float) -> R:
        """Returns a report of the steps since the last one; `per_second` counts the samples of all processes."""

    def after_step(self, report: R | None) -> None:
        """Runs between two steps in a subclass, for example to validate; `report` is None if none was made."""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self._steps

    def stop(self) -> None:
        """Asks the run to save and stop after the current step."""
        self.stop_asked = True

    def run(self, on_step: Callable[[R], None] = lambda report: None) -> None:
        """Trains to the end, until `stop` is called, or until the minutes are over; saves in each case.

        A single process also saves if a step fails because of its data, or of the user's own code.
        """
        begin = self._saved = time.monotonic()
        first_step = self.step
        while not self.finished:
            before = time.monotonic()
            try:
                self.advance()
            except MnemaskError:
                if self.step > first_step and self.fabric.world_size == 1:  # of several, the others do not get here
                    self.save()
                raise
            self.step += 1
            now = time.monotonic()
            self.seconds += now - before
            report = None
            if self.step == 1 or self.step % LOG_EVERY == 0 or self.finished:
                report = self.report((self.step - first_step) * self._batch / (now - begin))
                self._log(report)
                on_step(report)
            self.after_step(report)
            if report or self.fabric.world_size == 1:
                save, stop = self._decide(time.monotonic() - begin)
                if save or stop:
                    self.save()
                if stop:
                    return
        self.save()

    def update_weights(self, clip_norm: float | None, rate: float) -> Tensor | None:
        """Updates the weights with their gradients, and the average; returns the norm before clipping, None without.

        Args:
            clip_norm: largest norm of the gradient; None for any.
            rate: fraction of the recipe's learning rate, which is multiplied by the `factor` of a group that has one.
        """
        norm = None
        if clip_norm is not None:
            norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate * group.get("factor", 1.0) * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.trained, self.step)
        return norm

    def save(self) -> None:
        """Saves the current state of the run, so that it can be resumed.

        Raises:
            InputError: the weights are no longer finite; the previous checkpoint is kept.
            OutputError: the file cannot be written.
        """
        # In every process (weights and moments are the same in all): otherwise the others would wait for the first.
        if not is_finite(self.network, self.average.weights, self.optimizer.optimizer):
            raise self._diverged("the weights are no longer finite")
        if self.fabric.is_global_zero:
            precision = self.fabric.strategy.precision.state_dict()
            done = TrainingState(self.step, self.seconds, self._fixed | self._origin, precision)
            path = self.out / "latest.safetensors"
            save_run(path, self.network, self.average.weights, self.optimizer.optimizer, done)
        self.fabric.barrier()
        self._saved = time.monotonic()

    def add_line(self, log_name: str, entry: Mapping[str, object]) -> None:
        """Appends an entry, which has a "step", to a log of the run."""
        with (self.out / log_name).open("a") as lines:
            lines.write(json.dumps(entry) + "\n")

    def _log(self, report: R) -> None:
        # With float16, the gradient scaler skips such steps.
        if report.loss != report.loss and not self.fabric.strategy.precision.state_dict():
            raise self._diverged(f"the loss is {report.loss}")
        if self.fabric.is_global_zero:
            known = {
                name: None if value != value else value for name, value in asdict(report).items()
            }  # JSON has no NaN
            self.add_line("log.jsonl", known | {"seconds": round(self.seconds, 1)})

    def _decide(self, since_begin: float) -> tuple[bool, bool]:
        """Whether to save and whether to stop, decided by the first process: all must do the same."""
        over = self.minutes is not None and since_begin > 60 * self.minutes
        mine = (time.monotonic() - self._saved > CHECKPOINT_SECONDS, self.stop_asked or over)
        decision: tuple[bool, bool] = self.fabric.broadcast(mine)
        return decision

    def _diverged(self, what: str) -> InputError:
        saved = self.out / "latest.safetensors"
        go_on = f"continue with a higher precision from {saved}" if saved.exists() else "use a higher precision"
        return InputError(
            f"{what} after step {self.step}",
            f"{go_on}, or start again with a learning rate below {self._learning_rate}",
        )

    def _take_up(self) -> None:
        path = self.out / "latest.safetensors"
        done = load_run(path, self.network, self.average.weights, self.optimizer.optimizer)
        for name, value in self._fixed.items():
            # A run from before a setting existed used its default.
            before = done.settings.get(name, self._defaults.get(name, "None"))
            if before != value:
                raise InputError(
                    f"the run in {self.out} has {name} {before}, not {value}",
                    "use the same settings or another folder",
                )
        for name, value in self._origin.items():
            before = done.settings.get(name, value)
            if not value:
                self._origin[name] = before
            elif before != value and self.fabric.is_global_zero:
                log.warning("the run in %s resumes, changing %s: %s now, %s before", self.out, name, value, before)
        self.step, self.seconds = done.step, done.seconds
        if done.precision:
            self.fabric.strategy.precision.load_state_dict(dict(done.precision))
