"""Runs an experiment from its name to its tables and figures; each run on each sequence is computed once.

::

    OUT/runs/SETTINGS/…     a ResultFolder for each setting: masks and results by policy and sequence
    OUT/runs/SETTINGS/impossible/POLICY/SEQUENCE.txt   why it cannot run with that budget
    OUT/NAME/…              the tables and figures of an experiment, made from these
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mnemask.errors import BudgetError, InputError
from mnemask.evaluation import suite
from mnemask.evaluation.benchmark import Benchmark, BenchmarkSequence
from mnemask.evaluation.results import Result, ResultFolder, digest_of
from mnemask.evaluation.runner import Job, TrackerFactory
from mnemask.evaluation.suite import SuiteProgress
from mnemask.evaluation.tables import FORMATS, Row, cells, write_submission
from mnemask.experiments.catalogue import experiment_named
from mnemask.experiments.figures import require_matplotlib
from mnemask.experiments.plan import Experiment, Outcome, Run, Study
from mnemask.experiments.rows import notes_on
from mnemask.io.atomic import make_folder, safe_name, write_file
from mnemask.io.written import Written
from mnemask.memory.budget import Budget
from mnemask.memory.policies import policy_named, saved_unless_built_in
from mnemask.version import __version__

ALL_MEMORIES = 1_000_000
"""More tokens than any memory here holds; a read takes no more than there are."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A job for which a budget that is too small is a result, not an error."""

    job: Job

    def run(self, on_frame: Callable[[], None]) -> Result | str:
        """Returns the result, or the reason why there is none; both are saved."""
        if refusal := refusal_of(self.job):
            return refusal
        try:
            return self.job.run(on_frame)
        except BudgetError as error:
            if _is_out_of_memory(error):  # another device may have more
                raise
            self.job.folder.begin(*self.job.key).rmdir()
            path = _refusal_path(self.job)
            make_folder(path.parent)
            write_file(path, f"{_asked_of(self.job)}\n{error}")
            return str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a BudgetError is due to the device's memory rather than the budget."""
    cause = error.__cause__
    return cause is not None and (isinstance(cause, torch.OutOfMemoryError) or _is_out_of_memory(cause))


def refusal_of(job: Job) -> str | None:
    """Returns why a job's policy cannot run with the settings of its folder; None if no reason is saved.

    A reason no longer holds when the sequence, or a policy that is not built in, has changed.
    """
    path = _refusal_path(job)
    if not path.exists():
        return None
    asked, _, refusal = path.read_text(encoding="utf-8").partition("\n")
    return refusal if asked == _asked_of(job) else None


def _refusal_path(job: Job) -> Path:
    return job.folder.out / "impossible" / safe_name(job.policy) / f"{job.sequence.name}.txt"


def _asked_of(job: Job) -> str:
    """Returns a digest of a job's sequence and of the parameters of a policy that is not built in."""
    own = saved_unless_built_in(job.policy, job.trackers.config.used_policy())
    text = json.dumps([digest_of(job.sequence), own], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def trackers_of(run: Run, common: TrackerFactory) -> TrackerFactory:
    """Returns the trackers of a run, with the policy's own values filled in, so that equal runs get equal trackers."""
    policy = policy_named(run.policy)
    config = replace(
        common.config,
        policy=policy if run.pin is None else replace(policy, pin=run.pin),
        budget=Budget(frames=run.budget),
        write_every=run.write_every,
        top_k=ALL_MEMORIES if run.top_k is None else run.top_k,
        metric=run.metric,
        kmn_sigma=common.config.kmn_sigma if run.kmn_sigma is None else run.kmn_sigma,
    )
    policy = config.used_policy()
    config = replace(config, write_every=policy.write_every, write_on_growth=policy.write_on_growth)
    return replace(common, config=config)


def open_folder(out: Path, benchmark: Benchmark, trackers: TrackerFactory, common: Mapping[str, Any]) -> ResultFolder:
    """Returns the folder for all results of these settings, which is named after them and created if missing.

    Args:
        out: the folder of all experiments.
        benchmark: the data set.
        trackers: the trackers of a run.
        common: `TrackerFactory.settings` of all runs, passed in because the digest of the weights takes a while.
    """
    config, pin = trackers.config, trackers.config.used_policy().pin
    own = config.to_dict() | {"kmn_sigma": trackers.used_kmn_sigma(), "pin": pin}
    del own["policy"]  # each policy has its own subfolder
    settings = {"mnemask": __version__, **benchmark.settings(), **common, **own}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    frames = config.used_budget().frames
    memory = "unlimited" if frames is None else f"{frames:g}-frames"
    pinned = "pinned" if pin else "unpinned"
    name = f"{memory}_every-{config.write_every}_top-{config.top_k}_{config.metric}_{pinned}_{digest}"
    return ResultFolder.open(out / "runs" / name, settings)


def run_all(
    runs: Sequence[Run],
    benchmark: Benchmark,
    sequences: Sequence[BenchmarkSequence],
    out: Path,
    common: TrackerFactory,
    *,
    processes: int,
    on_progress: Callable[[SuiteProgress], None],
) -> tuple[Outcome, ...]:
    """Returns the outcome of each run; results in the folder are not computed again.

    Each sequence goes through all runs before the next one begins, so that load on the machine affects all runs alike.
    """
    common_settings = common.settings()
    trackers = {run: trackers_of(run, common) for run in runs}
    folders = {run: open_folder(out, benchmark, trackers[run], common_settings) for run in runs}
    jobs = {
        (run, sequence.name): Job(sequence, run.policy, trackers[run], folders[run])
        for sequence in sequences
        for run in runs
    }
    distinct = {(job.folder.out, *job.key): job for job in jobs.values()}
    there = [refusal_of(job) or job.found() for job in distinct.values()]
    missing = [job for job, found in zip(distinct.values(), there, strict=True) if found is None]
    num_frames = sum(len(job.sequence.given.frames) for job in missing)
    attempts = [Attempt(job) for job in missing]
    suite.carry_out(attempts, num_frames, len(distinct) - len(missing), processes, on_progress)
    outcomes = []
    for run in runs:
        refusals = (refusal_of(jobs[run, sequence.name]) for sequence in sequences)
        refusal = next((each for each in refusals if each), "")
        loaded = [(folders[run].load(run.policy, sequence.name), sequence.groups) for sequence in sequences]
        results = tuple(replace(result, groups=groups) for result, groups in loaded if result is not None)
        outcomes.append(Outcome(run, folders[run], () if refusal else results, refusal))
    return tuple(outcomes)


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result of an experiment.

    Attributes:
        title: what it shows.
        rows: the rows of its table, with scores from 0 to 1.
        notes: what a reader must know to compare the numbers.
        files: tables, figures, and zips for a benchmark's server.
    """

    title: str
    rows: list[Row]
    notes: list[str]
    files: list[Path]

    @property
    def cells(self) -> list[list[str]]:
        """The table as text: a header and the rows, scores in percent."""
        return cells(self.rows)


def run_experiment(
    experiment: Experiment | str,
    benchmark: Benchmark,
    out: Path | str,
    trackers: TrackerFactory | None = None,
    *,
    policies: Sequence[str] = (),
    sequences: Iterable[str] = (),
    processes: int = 1,
    on_progress: Callable[[SuiteProgress], None] = lambda progress: None,
) -> ExperimentResult:
    """Runs an experiment and returns its result, with tables and figures in OUT/NAME; earlier results are reused.

    Experiments share their runs in OUT/runs, so give all of them the same folder, but run only one at a time in it.
    With several processes, call it under `if __name__ == "__main__":`.

    Args:
        experiment: the experiment's name, its number in the thesis, such as "table1" or "fig11", or your own
            description.
        benchmark: the videos and their rules.
        out: the folder for all experiments, created if missing.
        trackers: the network and the settings that all runs share; each run has its own policy, budget, write interval,
            top k and metric, and, if given, σ of the KMN kernel. The thesis used no kernel: 0.
        policies: names of further policies to add to the experiment's.
        sequences: names of the videos; all by default.
        processes: 1 to compute in this process with all its threads, more for as many others with one thread each.
        on_progress: called with the progress, at least at the start, with each result and at the end.

    Raises:
        MissingExtraError: a figure is to be drawn, but matplotlib is not installed.
        MnemaskError: an argument cannot be used. Results so far are kept.
    """
    if isinstance(experiment, str):
        experiment = experiment_named(experiment)
    experiment = experiment.with_policies(policies)
    if processes < 1:
        raise InputError(f"cannot run with {processes} processes", "give 1 or more")
    if experiment.picture is not None:
        require_matplotlib()  # fail now rather than after hours of computing
    opened = tuple(benchmark.open(sequences))
    common = (trackers or TrackerFactory()).with_these_weights()
    network = common.tracker().model
    folder = make_folder(Path(out) / experiment.name)
    Written(folder).refuse_foreign(*(folder / f"{experiment.name}.{suffix}" for suffix in FORMATS))
    outcomes = run_all(
        experiment.runs, benchmark, opened, Path(out), common, processes=processes, on_progress=on_progress
    )
    study = Study(
        experiment,
        benchmark,
        opened,
        outcomes,
        Path(common.model).name,
        network.config.key_depth,
        common.config.short_side,
        common.used_kmn_sigma(),
        network.device.type,
    )
    return _written(study, folder)


def _written(study: Study, folder: Path) -> ExperimentResult:
    """Writes the result to the folder and returns it."""
    rows, notes = study.experiment.table(study), notes_on(study)
    pictures = [] if study.experiment.picture is None else study.experiment.picture.draw(study, folder)
    texts = {f"{study.experiment.name}.{suffix}": text_of(rows) for suffix, text_of in FORMATS.items()}
    table = texts[f"{study.experiment.name}.md"]
    shown = "".join(f"\n![{picture.stem}]({picture.name})\n" for picture in pictures if picture.suffix == ".png")
    listed = "".join(f"* {note}\n" for note in notes)
    texts[f"{study.experiment.name}.md"] = f"# {study.experiment.title}\n\n{table}\n{listed}{shown}"
    for name, text in texts.items():
        Written(folder).write(folder / name, text)
    zips = _submissions(study, folder) if study.benchmark.secret else []
    return ExperimentResult(study.experiment.title, rows, notes, [*(folder / name for name in texts), *pictures, *zips])


def _submissions(study: Study, folder: Path) -> list[Path]:
    """Writes a zip for the benchmark's server for each possible run, and returns their paths."""
    names, written = [sequence.name for sequence in study.sequences], []
    for outcome in study.outcomes:
        if outcome.results:
            target = folder / "submission" / f"{safe_name(str(outcome.run))}.zip"
            masks = outcome.folder.out / "masks" / safe_name(outcome.run.policy)
            write_submission(masks, names, target, study.benchmark.submission_top)
            written.append(target)
    return written
