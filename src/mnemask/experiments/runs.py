"""Runs over sequences, each computed once: experiments that ask for the same find it in one shared folder.

::

    OUT/runs/SETTINGS/…     a ResultFolder for each setting: masks and results by policy and sequence
    OUT/runs/SETTINGS/impossible/POLICY.txt   why a policy cannot work with that budget
    OUT/NAME/…              the tables and pictures of an experiment, made of these
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mnemask.errors import BudgetError
from mnemask.evaluation import suite
from mnemask.evaluation.benchmark import Benchmark, BenchmarkSequence
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.runner import Job, TrackerFactory
from mnemask.evaluation.suite import SuiteProgress
from mnemask.experiments.plan import Outcome, Run
from mnemask.io.atomic import make_folder, safe_name, write_file
from mnemask.memory.budget import Budget
from mnemask.memory.policies import policy_named
from mnemask.version import __version__

ALL_MEMORIES = 1_000_000
"""More than any memory here holds; a read takes no more than there are."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a policy cannot work with a budget."""

    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A job to which a budget that is too small is an answer, not an error: for this run it goes for all sequences."""

    job: Job

    def run(self, on_frame: Callable[[], None]) -> Result | Refusal:
        """Returns the result, or the reason why there can be none; both are kept."""
        if refusal := refusal_of(self.job.folder, self.job.policy):
            return refusal
        try:
            return self.job.run(on_frame)
        except BudgetError as error:
            if _is_out_of_memory(error):  # which another device may have
                raise
            self.job.folder.begin(*self.job.key).rmdir()
            path = _refusal_path(self.job.folder, self.job.policy)
            make_folder(path.parent)
            write_file(path, str(error))
            return Refusal(str(error))


def _is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a BudgetError comes of the device and not of the budget."""
    cause = error.__cause__
    return cause is not None and (isinstance(cause, torch.OutOfMemoryError) or _is_out_of_memory(cause))


def refusal_of(folder: ResultFolder, policy: str) -> Refusal | None:
    """Returns why a policy cannot work with a folder's settings, None where nothing says so."""
    path = _refusal_path(folder, policy)
    return Refusal(path.read_text(encoding="utf-8")) if path.exists() else None


def _refusal_path(folder: ResultFolder, policy: str) -> Path:
    return folder.out / "impossible" / f"{safe_name(policy)}.txt"


def trackers_of(run: Run, common: TrackerFactory) -> TrackerFactory:
    """Returns the trackers of a run, with everything said that a policy would say: equal runs get equal trackers."""
    policy = policy_named(run.policy)
    config = replace(
        common.config,
        policy=policy if run.pin is None else replace(policy, pin=run.pin),
        budget=Budget(frames=run.budget),
        write_every=policy.write_every if run.write_every is None else run.write_every,
        top_k=ALL_MEMORIES if run.top_k is None else run.top_k,
        metric=run.metric,
        kmn_sigma=common.config.kmn_sigma if run.kmn_sigma is None else run.kmn_sigma,
    )
    return replace(common, config=config)


def open_folder(out: Path, benchmark: Benchmark, trackers: TrackerFactory, common: Mapping[str, Any]) -> ResultFolder:
    """Returns the folder for all results of these settings, which it is named after; made if missing.

    Args:
        out: of all experiments.
        benchmark: the data set.
        trackers: of a run.
        common: what `TrackerFactory.settings` says of all runs; its weights' digest takes a while.
    """
    config, pin = trackers.config, trackers.config.used_policy().pin
    own = config.to_dict() | {"kmn_sigma": trackers.used_kmn_sigma(), "pin": pin}
    del own["policy"]  # each has a folder of its own within
    settings = {"mnemask": __version__, **benchmark.settings(), **common, **own}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    frames = config.used_budget().frames
    memory = "unlimited" if frames is None else f"{frames:g}-frames"
    pinned = "pinned" if pin else "unpinned"
    name = f"{memory}_every-{config.write_every}_top-{config.top_k}_{config.metric}_{pinned}_{digest}"
    return ResultFolder.open(out / "runs" / name, settings)


def carry_out(
    runs: Sequence[Run],
    benchmark: Benchmark,
    challenges: Sequence[BenchmarkSequence],
    out: Path,
    common: TrackerFactory,
    *,
    processes: int,
    on_progress: Callable[[SuiteProgress], None],
) -> tuple[Outcome, ...]:
    """Returns the outcome of each run; what the folder holds is not computed again.

    A sequence goes through all runs before the next one begins, so that what slows the machine down slows all runs.
    """
    common_settings = common.settings()
    trackers = {run: trackers_of(run, common) for run in runs}
    folders = {run: open_folder(out, benchmark, trackers[run], common_settings) for run in runs}
    jobs = {
        (run, challenge.name): Job(challenge, run.policy, trackers[run], folders[run])
        for challenge in challenges
        for run in runs
    }
    distinct = {(job.folder.out, *job.key): job for job in jobs.values()}
    there = [refusal_of(job.folder, job.policy) or job.found() for job in distinct.values()]
    missing = [job for job, found in zip(distinct.values(), there, strict=True) if found is None]
    num_frames = sum(len(job.challenge.given.frames) for job in missing)
    attempts = [Attempt(job) for job in missing]
    suite.carry_out(attempts, num_frames, len(distinct) - len(missing), processes, on_progress)
    outcomes = []
    for run in runs:
        refusal = refusal_of(folders[run], run.policy)
        results = [folders[run].load(run.policy, challenge.name) for challenge in challenges]
        known = () if refusal else tuple(result for result in results if result is not None)
        outcomes.append(Outcome(run, folders[run], known, refusal.reason if refusal else ""))
    return tuple(outcomes)
