"""The steps and tables of `results.py`: which command measures what, and how tables are made from its output."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemask.evaluation.results import Result
from mnemask.metrics import Report


@dataclass(frozen=True)
class Step:
    """One command; `{data}` stands for the data, `{out}` for a folder that the step keeps between calls.

    Attributes:
        name: name for `--only`.
        command: its words; the first is mnemask or python.
        quick: words that are added for `--quick`.
        weights: weights of the package that its numbers depend on; none for speed, which does not depend on them.
        time: approximate time on two CPU cores.
        precision: precision on every processor; None for the fastest of each processor. Quality is reported in float32;
            wide comparisons, whose rows differ by far more than rounding errors, use bfloat16.
        shares_runs: whether all such steps share one folder as `{out}/runs`: experiments have settings in common.
    """

    name: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("compact",)
    time: str = "an hour"
    precision: str | None = "float32"
    shares_runs: bool = False

    @property
    def line(self) -> str:
        """The command as it is typed in a shell."""
        words = [f'"{word}"' if " " in word else word for word in self.command]
        return " ".join([*([f"MNEMASK_PRECISION={self.precision}"] if self.precision else []), *words])


@dataclass(frozen=True)
class Table:
    """A table in documents, made from the folders of its steps.

    Attributes:
        name: name in documents and for `--only`.
        steps: names of its steps.
        render: returns Markdown, given their folders.
        pictures: pictures of its first step, as paths in `{out}` and in the repository, where documents show them.
    """

    name: str
    steps: tuple[str, ...]
    render: Callable[[Sequence[Path]], str]
    pictures: Mapping[str, str] = field(default_factory=dict)


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
    """Returns the results that `mnemask evaluate` wrote, by policy, one for each sequence."""
    return {
        policy.name: [Result.from_dict(json.loads(path.read_text())) for path in sorted(policy.glob("*.json"))]
        for policy in (folder / "out/results").iterdir()
    }


def written(folders: Sequence[Path]) -> str:
    """Returns the table that `mnemask experiment` wrote, without impossible rows, in `EXPERIMENT_COLUMNS`."""
    path = next((folders[0] / "out").glob("*/*.md"))
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    header, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [dict(zip(header, row, strict=True)) for row in body]
    for row in rows:
        for name in ("J&F", "gain"):
            if row.get(f"{name}-Low", "-") != "-":
                row[f"{name}, 95 %"] = f"{row[f'{name}-Low']} to {row[f'{name}-High']}"
    rows = [row for row in rows if not row.get("note", "").startswith("impossible")]
    rows = [{name: cell for name, cell in row.items() if cell != "-"} for row in rows]
    shown = [name for name in EXPERIMENT_COLUMNS if any(name in row for row in rows)]
    titles = [EXPERIMENT_COLUMNS[name] for name in shown]
    return as_table(titles, [[row.get(name, "") for name in shown] for row in rows])


def scores(results: Sequence[Result]) -> list[str]:
    """Returns J, F, J&F, J decay and the interval of J&F, in percent."""
    report = Report.merged([result.report for result in results if result.report])
    low, high = report.interval() if len(results) > 1 else (float("nan"), float("nan"))
    values = (report.region.mean, report.boundary.mean, report.j_and_f, report.region.decay)
    return [*(f"{100 * value:.1f}" for value in values), f"{100 * low:.1f} to {100 * high:.1f}"]


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join((lines[0], "|---" * len(header) + "|", *lines[1:]))


EXPERIMENT_COLUMNS = {
    "run": "run",
    "object": "object",
    "budget": "memory",
    "source": "source",
    "J-Mean": "J",
    "J-Recall": "J recall",
    "J-Decay": "J decay",
    "F-Mean": "F",
    "J&F-Mean": "J&F",
    "J&F, 95 %": "95 %",
    "gain": "gain",
    "gain, 95 %": "95 % of the gain",
    "thesis J": "thesis J",
    "thesis F": "thesis F",
    "difference": "difference",
    "MiB": "MiB",
}
"""Columns of an experiment's table that documents show, if present, and their headings."""

QUALITY = (
    ("`diverse` (default)", "2 frames", 0, "diverse"),
    ("`lfu-pinned`", "2 frames", 0, "lfu-pinned"),
    ("`diverse`", "4 frames", 1, "diverse"),
    ("`lfu`", "2 frames", 0, "lfu"),
    ("`keep-all`", "each 5th frame, growing", 0, "keep-all"),
    ("`first-and-latest`", "2 frames", 0, "first-and-latest"),
)


def quality(folders: Sequence[Path]) -> str:
    """Returns the scores of policies over all sequences; `QUALITY` lists them and the steps they come from."""
    found = [results_in(folder) for folder in folders]
    rows = [[title, memory, *scores(found[step][policy])] for title, memory, step, policy in QUALITY]
    return as_table(("policy", "memory", "J", "F", "J&F", "J decay", "95 % of J&F"), rows)


def by_sequence(folders: Sequence[Path]) -> str:
    """Returns J / F of each policy in each sequence, scores over all of them, and the size of the bank."""
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


def experiment(name: str, *options: str) -> Step:
    """Returns the step of an experiment on the eight sequences."""
    data = ("{data}/davis2016-dev", "--dataset", "davis2016", "--processes", "2", "--device", "cpu")
    command = ("mnemask", "experiment", name, *data, *options, "-o", "{out}")
    return Step(name, command, QUICK, time=TIMES.get(name, "5 minutes"), precision="bfloat16", shares_runs=True)


def script(name: str, *options: str) -> tuple[str, ...]:
    return ("python", f"benchmarks/{name}.py", *options)


def clicks(name: str) -> Step:
    """Returns the step that scores masks from clicks and boxes on one set of pictures."""
    command = script("clicks", "{data}", "--set", name, "--no-grabcut")
    return Step(f"clicks-{name}", command, ("--limit", "2"), CLICKS, TEN_MINUTES)


DAVIS = "{data}/davis2016-dev"
CLICKS = ("compact", "clicks")
CLICK_HEAD = "click-head"
NO_KERNEL = ("--kmn-sigma", "0")  # the read of the thesis
SMALL = (*NO_KERNEL, "--size", "240")
TEN_MINUTES = "10 minutes"
TIMES = {"policies": "an hour", "capacity": TEN_MINUTES, "kmn-sigma": "15 minutes"}
SELECTION = script("selection", "compact", "--data", "{data}", "--out", "{out}", "--processes", "2")
SEVERAL_OBJECTS = (
    *(*SELECTION, "--kind", "generated", "--crossing", "--size", "240"),
    *(
        word
        for kernel in ("own kernel", "no kernel")
        for policy in ("diverse", "per-object", *PLAIN[1:])
        for word in ("--setting", f"{policy}, {kernel}")
    ),
    *(
        word
        for frames in (1, 4)
        for policy in ("diverse", "lfu-pinned", "lfu")
        for word in ("--setting", f"{policy}, frames={frames}")
    ),
)
LAB_TRIALS = (
    *("keep-all", "lfu", "lfu-pinned", "first-and-latest", "part", "part-per-object", "fading", "per-object"),
    *("sample-100", "sample-100-objects-2", "sample-objects-distinct", "sample-per-object"),
    *("distinct-new", "diverse", "distinct-old", "distinct-new-whole", "distinct-label", "distinct-objects"),
    *("distinct-per-object", "condensed", "margin", "trusting-lfu-pinned", "sure-latest"),
)
POLICY_LAB = (
    *script("policy_lab", "{out}", "--davis", DAVIS, "--size", "240", "--set", "davis", "--set", "drawn"),
    *(word for trial in LAB_TRIALS for word in ("--trial", trial)),
)
ENGINE_OVERLAP = script(
    "engines", "--overlap", "--davis", DAVIS, *(word for name in ("int8", "int8-all") for word in ("--engine", name))
)
STRIDE_8 = ("kernel 0.2", "kernel 0.2, refine 8", "kernel 0.2, refine 8, same bytes", "plain", "refine 8")
MULTI_SCALE = script("multi_scale", "--davis", DAVIS, *(word for trial in STRIDE_8 for word in ("--trial", trial)))
EXPERIMENTS = (
    experiment("policies"),
    experiment("capacity"),
    experiment("kmn-sigma"),
    *(experiment(name, *NO_KERNEL) for name in ("strategies", "index", "per-sequence")),
    *(experiment(name, *SMALL) for name in ("affinity", "top-k", "write-interval", "protection")),
)
PICTURES = {
    "capacity": {"capacity/capacity.png": "benchmarks/results/capacity.png"},
    "kmn-sigma": {"kmn-sigma/kmn-sigma.png": "benchmarks/results/kmn-kernel.png"},
}
STEPS = {
    step.name: step
    for step in (
        Step("davis", evaluate(POLICIES), QUICK, time="15 minutes"),
        Step("davis-4-frames", evaluate(["diverse"], "--frames", "4"), QUICK, time="5 minutes"),
        Step("davis-no-kernel", evaluate(PLAIN, *NO_KERNEL), QUICK, time=TEN_MINUTES),
        Step(
            "selection",
            SELECTION,
            ("--quick",),
            time="20 minutes",
            precision="bfloat16",
        ),
        Step(
            "several-objects",
            SEVERAL_OBJECTS,
            ("--frames", "20", "--clip", "pair", "--clip", "camel+dog"),
            time="one hour",
        ),
        Step(
            CLICK_HEAD,
            ("mnemask", "train-clicks", "{data}", "--weights", "compact", "--resume", "-o", "{out}"),
            time="15 minutes",
            precision=None,
        ),
        *(clicks(name) for name in ("photographs", "choosing", "davis")),
        *EXPERIMENTS,
        Step("policy-lab", POLICY_LAB, ("--clip", "dog", "--clip", "drawn-pair", "--size", "96"), time="half an hour"),
        Step("multi-scale", MULTI_SCALE, ("--clips", "1"), time=TEN_MINUTES),
        Step(
            "true-memory", script("true_memory", DAVIS), ("--sequence", "dog"), time=TEN_MINUTES, precision="bfloat16"
        ),
        Step("soak", script("soak", "--folder", "{out}"), ("--frames", "300"), time="15 minutes"),
        Step("engine-overlap", ENGINE_OVERLAP, ("--frames", "4", "--clips", "1"), time="5 minutes"),
        Step("engines", script("engines", "--davis", DAVIS), ("--rounds", "2", "--frames", "4"), (), precision=None),
        Step("pipeline-speed", script("pipeline_speed"), ("--size", "96", "--rounds", "1"), (), precision=None),
        Step("core-speed", script("core_speed"), ("--size", "96", "160", "--rounds", "1"), (), TEN_MINUTES, None),
        Step("read-speed", script("read_speed"), ("--frames", "2", "--rounds", "1"), (), TEN_MINUTES, None),
        Step("many-streams", script("many_streams"), ("--size", "96", "160", "--rounds", "2"), (), "20 minutes", None),
        Step("scoring-speed", script("scoring_speed", DAVIS), ("--frames", "5", "--rounds", "1"), (), "5 minutes"),
    )
}
TABLES = {
    table.name: table
    for table in (
        Table("quality", ("davis", "davis-4-frames"), quality),
        Table("davis2016-dev", ("davis",), by_sequence),
        Table("davis2016-dev-no-kernel", ("davis-no-kernel",), by_sequence),
        *(Table(step.name, (step.name,), written, PICTURES.get(step.name, {})) for step in EXPERIMENTS),
        *(
            Table(step.name, (step.name,), printed)
            for step in STEPS.values()
            if step not in EXPERIMENTS and not step.name.startswith(("davis", CLICK_HEAD))
        ),
    )
}
