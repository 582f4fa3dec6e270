"""The steps and tables of `results.py`: which command measures what, and how a table is made of its output."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemask.evaluation.results import Result
from mnemask.metrics import Report


@dataclass(frozen=True)
class Step:
    """One command; `{data}` stands for the data, `{out}` for a place that the step keeps from one call to the next.

    Attributes:
        name: in `--only`.
        command: begins with mnemask or python.
        quick: what is added for `--quick`.
        weights: of the package that its numbers depend on; none for speed, which does not depend on their values.
        time: about how long it takes on two CPU cores.
        float32: whether it computes in float32 on every processor, as quality is reported.
    """

    name: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("compact",)
    time: str = "an hour"
    float32: bool = True


@dataclass(frozen=True)
class Table:
    """A table in documents, made of the folders of its steps."""

    name: str
    steps: tuple[str, ...]
    render: Callable[[Sequence[Path]], str]


def printed(folders: Sequence[Path]) -> str:
    """Returns the Markdown tables that the commands printed, with an empty line between two."""
    lines = [line for folder in folders for line in (folder / "output.md").read_text(encoding="utf-8").splitlines()]
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    return "\n\n".join("\n".join(table) for table in tables if table)


def results_in(folder: Path) -> dict[str, list[Result]]:
    """Returns what `mnemask evaluate` left: the results of each policy, sequence by sequence."""
    return {
        policy.name: [Result.from_dict(json.loads(path.read_text())) for path in sorted(policy.glob("*.json"))]
        for policy in (folder / "out/results").iterdir()
    }


def written(folders: Sequence[Path]) -> str:
    """Returns the table of an experiment, as `mnemask experiment` wrote it."""
    path = next((folders[0] / "out").glob("*/*.md"))
    return "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|"))


def scores(results: Sequence[Result]) -> list[str]:
    """J, F, J&F, J decay and the interval of J&F, in percent."""
    report = Report.merged([result.report for result in results if result.report])
    low, high = report.interval() if len(results) > 1 else (float("nan"), float("nan"))
    values = (report.region.mean, report.boundary.mean, report.j_and_f, report.region.decay)
    return [*(f"{100 * value:.1f}" for value in values), f"{100 * low:.1f} to {100 * high:.1f}"]


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join((lines[0], "|---" * len(header) + "|", *lines[1:]))


QUALITY = (
    ("`diverse` (default)", "2 frames", 0, "diverse"),
    ("`lfu-pinned`", "2 frames", 0, "lfu-pinned"),
    ("`diverse`", "4 frames", 1, "diverse"),
    ("`lfu`", "2 frames", 0, "lfu"),
    ("`keep-all`", "each 5th frame, growing", 0, "keep-all"),
    ("`first-and-latest`", "2 frames", 0, "first-and-latest"),
)


def quality(folders: Sequence[Path]) -> str:
    """Policies by their scores over all sequences; `QUALITY` says which, and of which step."""
    found = [results_in(folder) for folder in folders]
    rows = [[title, memory, *scores(found[step][policy])] for title, memory, step, policy in QUALITY]
    return as_table(("policy", "memory", "J", "F", "J&F", "J decay", "95 % of J&F"), rows)


def by_sequence(folders: Sequence[Path]) -> str:
    """J / F of each policy in each sequence, scores over all of them, and the size of the bank."""
    found = results_in(folders[0])
    names = [result.sequence for result in next(iter(found.values()))]
    rows = []
    for policy in sorted(found, key=POLICIES.index):
        reports = [result.report for result in found[policy] if result.report]
        each = [f"{100 * report.region.mean:.1f} / {100 * report.boundary.mean:.1f}" for report in reports]
        most = max(result.most_bytes for result in found[policy]) / 2**20
        rows.append([policy, *each, *scores(found[policy]), f"{most:.1f}"])
    return as_table(("policy", *names, "J", "F", "J&F", "J decay", "95 % of J&F", "MiB"), rows)


POLICIES = ("diverse", "per-object", "lfu-pinned", "attention-mass", "lfu", "keep-all", "first-and-latest")
PLAIN = ("diverse", "lfu-pinned", "lfu", "keep-all", "first-and-latest")
QUICK = ("--size", "160", "--sequence", "dog", "--sequence", "camel")


def evaluate(policies: Sequence[str], *options: str) -> tuple[str, ...]:
    named = [word for policy in policies for word in ("--policy", policy)]
    data = ("{data}/davis2016-dev", "--dataset", "davis2016", "--processes", "2", "--device", "cpu")
    return ("mnemask", "evaluate", *data, *named, *options, "-o", "{out}")


def experiment(name: str) -> tuple[str, ...]:
    data = ("{data}/davis2016-dev", "--dataset", "davis2016", "--processes", "2")
    plain = () if name in ("fig11", "kernel") else ("--kmn-sigma", "0")  # the others read as the thesis does
    return ("mnemask", "experiment", name, *data, *plain, "-o", "{out}")


def script(name: str, *options: str) -> tuple[str, ...]:
    return ("python", f"benchmarks/{name}.py", *options)


DAVIS = "{data}/davis2016-dev"
CLICKS = ("compact", "clicks")
CLICK_HEAD = "click-head"
EXPERIMENTS = {"policies": "policies", "capacity": "fig11", "kernel": "kernel", "table1": "table1"}
STEPS = {
    step.name: step
    for step in (
        Step("davis", evaluate(POLICIES), QUICK, time="40 minutes"),
        Step("davis-4-frames", evaluate(["diverse"], "--frames", "4"), QUICK, time="6 minutes"),
        Step("davis-no-kernel", evaluate(PLAIN, "--kmn-sigma", "0"), QUICK, time="30 minutes"),
        Step(
            "selection",
            script("selection", "compact", "--data", "{data}", "--out", "{out}"),
            ("--quick",),
            time="2 hours",
        ),
        Step(
            CLICK_HEAD,
            ("mnemask", "train-clicks", "{data}", "--weights", "compact", "--resume", "-o", "{out}"),
            time="15 minutes",
            float32=False,
        ),
        Step("clicks-photographs", script("clicks", "{data}", "--set", "photographs"), ("--limit", "5"), CLICKS),
        Step("clicks-choosing", script("clicks", "{data}", "--set", "choosing"), ("--limit", "5"), CLICKS),
        Step("clicks-davis", script("clicks", "{data}", "--set", "davis"), ("--limit", "2"), CLICKS, "5 minutes"),
        *(Step(name, experiment(number), QUICK, time="3 hours") for name, number in EXPERIMENTS.items()),
        Step("policy-lab", script("policy_lab", "{out}", "--davis", DAVIS, "--size", "240"), time="half a day"),
        Step("multi-scale", script("multi_scale", "--davis", DAVIS), ("--clips", "1"), time="3 hours"),
        Step("true-memory", script("true_memory", DAVIS), ("--sequence", "dog")),
        Step("soak", script("soak", "--folder", "{out}", "--out", "{out}/soak.md"), ("--frames", "300")),
        Step("engines", script("engines", "--davis", DAVIS), ("--rounds", "2", "--frames", "4"), float32=False),
        Step("pipeline-speed", script("pipeline_speed"), ("--size", "96", "--rounds", "1"), (), float32=False),
        Step("core-speed", script("core_speed"), ("--size", "96", "160", "--rounds", "1"), (), "10 minutes", False),
        Step("read-speed", script("read_speed"), ("--frames", "2", "--rounds", "1"), (), "10 minutes", False),
        Step("many-streams", script("many_streams"), ("--size", "96", "160", "--rounds", "2"), (), "20 minutes", False),
        Step("scoring-speed", script("scoring_speed", DAVIS), ("--frames", "5", "--rounds", "1"), (), "5 minutes"),
    )
}
TABLES = {
    table.name: table
    for table in (
        Table("quality", ("davis", "davis-4-frames"), quality),
        Table("davis2016-dev", ("davis",), by_sequence),
        Table("davis2016-dev-no-kernel", ("davis-no-kernel",), by_sequence),
        *(Table(name, (name,), written) for name in EXPERIMENTS),
        *(Table(name, (name,), printed) for name in STEPS if not name.startswith(("davis", CLICK_HEAD, *EXPERIMENTS))),
    )
}
