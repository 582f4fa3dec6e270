"""What every training run shares: its state, where it is kept, when it is saved and when it ends."""

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
from torch import nn

from mnemask.errors import InputError
from mnemask.training.checkpoint import TrainingState, forget_after, is_finite, load_run, save_run
from mnemask.training.losses import EMA

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 180
LOGS = ("log.jsonl", "validation.jsonl")
LOG_EVERY = 10  # steps; also how often processes agree on whether to save and stop


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run is doing: the last step that was logged.

    Attributes:
        step: steps done.
        loss: what is minimised.
    """

    step: int
    loss: float


R = TypeVar("R", bound=TrainingReport)


class TrainingRun(ABC, Generic[R]):
    """A run, new or resumed from `out/latest.safetensors`; a subclass says what is trained and how.

    Args:
        fabric: launched; says which devices, processes and precision.
        recipe: all hyper-parameters, a dataclass with `steps`, `batch`, `learning_rate` and `ema`.
        out: folder of the run.
        network: what is saved, all of it.
        trained: the parameters of `network` that are trained, by name.
        module: what is called in a step, a part of which is `network`.
        optimizer: of the trained parameters.
        minutes: stop and save after this time, to go on another day; None trains to the end.
        fixed: what a run must have as it began in order to go on, besides the recipe, in words by name.
        origin: what may have changed since it began, in words by name; a run that goes on says so.
        branch_from: a run's file to go on from with its weights, their average and its moments where `out` holds no
            run; the steps are counted anew.

    Attributes:
        module: set up by Fabric.
        average: of the trained parameters.
        step: steps done.
        seconds: spent on them, in all starts of the run.

    Raises:
        InputError: `out` holds a run with other settings.
        CheckpointError: `out` or `branch_from` is a damaged run.
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
        """Does one update of the weights."""

    @abstractmethod
    def report(self, per_second: float) -> R:
        """Returns a report of the steps since the last one; `per_second`: samples, all processes together."""

    def after_step(self, report: R | None) -> None:
        """What a subclass does between two steps, such as a validation; `report` where one was made."""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self._steps

    def stop(self) -> None:
        """Asks the run to save and end after the step it is in."""
        self.stop_asked = True

    def run(self, on_step: Callable[[R], None] = lambda report: None) -> None:
        """Trains to the end, or until `stop_asked` or the minutes are over; saves either way."""
        begin = self._saved = time.monotonic()
        first_step = self.step
        while not self.finished:
            before = time.monotonic()
            self.advance()
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

    def save(self) -> None:
        """Writes the run as it stands, so that it can be resumed.

        Raises:
            InputError: the weights are no longer finite; what was written before stays.
            OutputError: the place cannot be written to.
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
        # Under float16 the gradient scaler leaves such steps out by itself.
        if report.loss != report.loss and not self.fabric.strategy.precision.state_dict():
            raise self._diverged(f"the loss is {report.loss}")
        if self.fabric.is_global_zero:
            known = {
                name: None if value != value else value for name, value in asdict(report).items()
            }  # NaN is no JSON
            self.add_line("log.jsonl", known | {"seconds": round(self.seconds, 1)})

    def _decide(self, since_begin: float) -> tuple[bool, bool]:
        """Whether to save and whether to stop, as the first process sees it: all must do the same."""
        over = self.minutes is not None and since_begin > 60 * self.minutes
        mine = (time.monotonic() - self._saved > CHECKPOINT_SECONDS, self.stop_asked or over)
        decision: tuple[bool, bool] = self.fabric.broadcast(mine)
        return decision

    def _diverged(self, what: str) -> InputError:
        saved = self.out / "latest.safetensors"
        go_on = f"go on with more precision from {saved}" if saved.exists() else "begin with more precision"
        return InputError(
            f"{what} after step {self.step}",
            f"{go_on}, or begin again with a lower learning rate than {self._learning_rate}",
        )

    def _take_up(self) -> None:
        path = self.out / "latest.safetensors"
        done = load_run(path, self.network, self.average.weights, self.optimizer.optimizer)
        for name, value in self._fixed.items():
            # A run that is older than a setting did as the default says.
            before = done.settings.get(name, self._defaults.get(name, "None"))
            if before != value:
                raise InputError(
                    f"the run in {self.out} has {name} {before}, not {value}",
                    "give the same settings or another folder",
                )
        for name, value in self._origin.items():
            before = done.settings.get(name, value)
            if before != value and self.fabric.is_global_zero:
                log.warning("the run in %s goes on, and %s: %s now, %s before", self.out, name, value, before)
        self.step, self.seconds = done.step, done.seconds
        if done.precision:
            self.fabric.strategy.precision.load_state_dict(dict(done.precision))
