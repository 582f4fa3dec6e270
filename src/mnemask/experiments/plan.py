"""The description of an experiment and its results: runs, columns, the thesis's numbers, a figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from mnemask.evaluation.benchmark import SUBSETS, Benchmark, BenchmarkSequence
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.tables import GAIN, Row
from mnemask.memory.policies import policy_named
from mnemask.memory.read import Metric

SCORES = ("J&F-Mean", "J&F-Low", "J&F-High", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
GROUPS = ("J-seen", "J-unseen", "F-seen", "F-unseen", "G-Mean")
COSTS = ("frames/s", "frames held", "most frames", "MiB")
SHORT = ("J&F-Mean", "J&F-Low", "J&F-High", *GAIN, "J-Mean", "F-Mean", "J-Decay", "frames/s", "frames held", "MiB")


@dataclass(frozen=True, slots=True)
class Run:
    """One setting of the tracker, run on all sequences; None stands for the policy's own value.

    Attributes:
        label: the name in tables and figures; label and budget are unique in an experiment.
        policy: a name in `POLICIES`.
        frames: the budget in frames.
        write_every: the write interval in frames.
        pin: whether annotated frames are never evicted.
        top_k: tokens read per query; None for all.
        metric: the affinity of a query and a memory key.
        kmn_sigma: σ of the KMN kernel, see `Tracker`; None for the model's own.
    """

    label: str
    policy: str
    frames: int | float | None = None
    write_every: int | None = None
    pin: bool | None = None
    top_k: int | None = 20
    metric: Metric = "l2"
    kmn_sigma: int | float | None = None

    @property
    def budget(self) -> float | None:
        """The budget in frames; None without a limit."""
        return policy_named(self.policy).default_frames if self.frames is None else float(self.frames)

    def __str__(self) -> str:
        return f"{self.label}, {memory_text(self.budget)}"


def memory_text(frames: float | None) -> str:
    """Returns a budget in words."""
    if frames is None:
        return "no limit"
    return f"{frames:g} frame{'' if frames == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run.

    Attributes:
        run: the setting.
        folder: the folder with its masks and results.
        results: one result for each sequence; empty if the run is impossible.
        refusal: the reason why the run is impossible on one of the sequences; empty if it is possible on all.
    """

    run: Run
    folder: ResultFolder
    results: tuple[Result, ...]
    refusal: str = ""

    @property
    def scored(self) -> bool:
        """Whether there are scores: the run was possible and the true masks are not secret."""
        return bool(self.results) and all(result.report is not None for result in self.results)


Reference = Mapping[str, Mapping[Run, Row]]
"""The thesis's numbers by data set and run; scores from 0 to 1, like ours."""


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment that has been run.

    Attributes:
        experiment: its description.
        benchmark: the data set.
        sequences: its videos.
        outcomes: the outcome of each run, in the order of the description.
        model: name of the weights.
        key_depth: depth of the network's key encoder; 50 in the thesis.
        size: short side in pixels at which frames were processed.
        kmn_sigma: σ of the KMN kernel in the runs that do not set it themselves.
        device: the device used.
    """

    experiment: "Experiment"
    benchmark: Benchmark
    sequences: tuple[BenchmarkSequence, ...]
    outcomes: tuple[Outcome, ...]
    model: str
    key_depth: int
    size: int | None
    kmn_sigma: int | float
    device: str

    def of(self, run: Run) -> Outcome:
        """Returns the outcome of a run of the experiment."""
        return next(outcome for outcome in self.outcomes if outcome.run == run)

    @property
    def is_the_thesis_set(self) -> bool:
        """Whether the videos are from a set and subset measured in the thesis, and played once."""
        usual = self.benchmark.chosen_subset == SUBSETS.get(self.benchmark.dataset)
        return usual and self.benchmark.ping_pong is None

    @property
    def reference(self) -> Mapping[Run, Row]:
        """The thesis's numbers for this data set, by run; empty if it has none."""
        return self.experiment.reference.get(self.benchmark.dataset, {}) if self.is_the_thesis_set else {}


@runtime_checkable
class Figure(Protocol):
    """A figure that shows what a table cannot."""

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Writes the figure's files into the folder and returns their paths."""

    def with_policies(self, names: Sequence[str]) -> tuple["Figure", tuple[Run, ...]]:
        """Returns the figure with these policies added, and the runs of theirs that it shows."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The description of an experiment: what is run and what is shown.

    Attributes:
        name: the name on the command line.
        title: what it shows, in one line.
        runs: the settings to compare.
        table: makes the rows of its table.
        columns: the columns of its table; those without values are left out.
        baseline: the run against which the others' gain is measured, paired by sequence.
        reference: the thesis's numbers.
        remarks: sentences about these numbers, by data set; "" for any.
        picture: the figure to draw, or None.
        budgets: budgets in frames for each added policy; if empty, the figure's are used, or the policy's own.
        also: other names: the numbers of its tables and figures in the thesis.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    table: Callable[[Study], list[Row]]
    columns: tuple[str, ...] = SHORT
    baseline: Run | None = None
    reference: Reference = field(default_factory=dict)
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    picture: Figure | None = None
    budgets: tuple[int, ...] = ()
    also: tuple[str, ...] = ()

    def with_policies(self, names: Sequence[str]) -> "Experiment":
        """Returns the experiment with the runs of these policies added, also to its figure."""
        there, names = {str(run) for run in self.runs}, list(dict.fromkeys(names))
        more = tuple(Run(name, name, frames=frames) for name in names for frames in self.budgets or (None,))
        picture = self.picture
        if picture is not None:
            picture, more = picture.with_policies(names)
        runs = (*self.runs, *(run for run in more if str(run) not in there))
        return replace(self, runs=runs, picture=picture)

    def __post_init__(self) -> None:
        assert len({str(run) for run in self.runs}) == len(self.runs), f"two runs of {self.name} look the same"
        assert self.baseline in (None, *self.runs), f"the baseline of {self.name} is not among its runs"
