"""An experiment as a description, and its results: runs, columns, the thesis's figures, a picture."""

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
    """One setting of the tracker, over all sequences; None is what the policy has by itself.

    Attributes:
        label: what tables and pictures call it; with the budget it tells the runs of an experiment apart.
        policy: a name in `POLICIES`.
        frames: the budget in frames.
        write_every: write interval in frames.
        pin: whether annotated frames may never be evicted.
        top_k: memories read per query; None for all of them.
        metric: how alike a query and a memory are.
        kmn_sigma: σ of the KMN kernel, see `Tracker`; None is what the model has by itself.
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
        """The budget in frames, None without a limit."""
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
    """What came of one run.

    Attributes:
        run: the setting.
        folder: where its masks and results are.
        results: one for each sequence; none where the run is impossible.
        refusal: why it is impossible, empty where it is not.
    """

    run: Run
    folder: ResultFolder
    results: tuple[Result, ...]
    refusal: str = ""

    @property
    def scored(self) -> bool:
        """Whether there are scores: the run was possible, and the true masks are known."""
        return bool(self.results) and all(result.report is not None for result in self.results)


Reference = Mapping[str, Mapping[Run, Row]]
"""The thesis's figures by data set and run, from 0 to 1 as ours."""


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment that was carried out.

    Attributes:
        experiment: its description.
        benchmark: the data set.
        sequences: its videos.
        outcomes: of each run, in the order of the description.
        model: name of the weights.
        key_depth: depth of the network's key encoder; the thesis's is 50.
        size: short side in pixels at which frames were processed.
        kmn_sigma: of the runs that do not set it themselves.
        device: that computed it.
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
        """Whether the videos come from a set and subset that the thesis measured, played once."""
        usual = self.benchmark.chosen_subset == SUBSETS.get(self.benchmark.dataset)
        return usual and self.benchmark.ping_pong is None

    @property
    def reference(self) -> Mapping[Run, Row]:
        """The thesis's figures for this data set, by run; empty where it has none."""
        return self.experiment.reference.get(self.benchmark.dataset, {}) if self.is_the_thesis_set else {}


@runtime_checkable
class Figure(Protocol):
    """Draws what a table does not show."""

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Returns the files that it wrote into the folder."""

    def with_policies(self, names: Sequence[str]) -> tuple["Figure", tuple[Run, ...]]:
        """Returns the picture that shows these policies as well, and the runs that it shows of them."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is run, and what is shown of it.

    Attributes:
        name: on the command line.
        title: what it shows, in one line.
        runs: the settings that are compared.
        table: makes the rows of its table.
        columns: of its table, those of them that there are.
        baseline: the run that the others' gain is measured from, sequence by sequence.
        reference: the thesis's figures.
        remarks: sentences about these figures, by data set; "" for any.
        picture: a figure to draw, if any.
        budgets: in frames, of each policy that joins it; without, the picture decides, or the policy's own is taken.
        also: other names, the thesis's numbers.
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
        """Returns the experiment with the runs of more policies, which its picture shows too."""
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
