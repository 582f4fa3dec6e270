"""An experiment from its name to its tables and pictures."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemask.errors import InputError
from mnemask.evaluation.benchmark import Benchmark
from mnemask.evaluation.runner import TrackerFactory
from mnemask.evaluation.suite import SuiteProgress
from mnemask.evaluation.tables import FORMATS, Row, cells, write_submission
from mnemask.experiments.catalogue import experiment_named
from mnemask.experiments.figures import require_matplotlib
from mnemask.experiments.plan import Experiment, Study
from mnemask.experiments.rows import notes_on
from mnemask.experiments.runs import carry_out
from mnemask.io.atomic import make_folder, safe_name
from mnemask.io.written import Written


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What an experiment found.

    Attributes:
        title: what it shows.
        rows: of its table; scores are from 0 to 1.
        notes: what a reader must know before comparing figures.
        files: tables, pictures, and zips for a benchmark's server.
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
    """Returns what an experiment found, with tables and pictures in OUT/NAME; what was computed before is used again.

    Runs that several experiments share are in OUT/runs, so give all of them one folder, and use it with one at a time.
    With several processes, call it from below `if __name__ == "__main__":`.

    Args:
        experiment: its name, the thesis's number such as "table1" or "fig11", or your own description.
        benchmark: the videos and their rules.
        out: the folder for all experiments, made if missing.
        trackers: the network, and the settings that all runs have in common; a run has its own policy, budget, write
            interval, top k and metric, and its σ of the KMN kernel where it says one. The thesis's runs had none: 0.
        policies: names of more policies, to be run beside those of the experiment.
        sequences: names of the videos; all by default.
        processes: 1 computes in this one with all its threads, more in as many of one thread each.
        on_progress: called with the progress, at least at the beginning, with each result and at the end.

    Raises:
        MissingExtraError: there are pictures to draw, and matplotlib is not installed.
        MnemaskError: an argument cannot be used. Results so far are kept.
    """
    if isinstance(experiment, str):
        experiment = experiment_named(experiment)
    experiment = experiment.with_policies(policies)
    if processes < 1:
        raise InputError(f"{processes} processes do nothing", "give 1 or more")
    if experiment.picture is not None:
        require_matplotlib()  # rather now than after hours of computing
    challenges = tuple(benchmark.open(sequences))
    common = trackers or TrackerFactory()
    network = common.tracker().model
    folder = make_folder(Path(out) / experiment.name)
    Written(folder).refuse_foreign(*(folder / f"{experiment.name}.{suffix}" for suffix in FORMATS))
    outcomes = carry_out(
        experiment.runs, benchmark, challenges, Path(out), common, processes=processes, on_progress=on_progress
    )
    study = Study(
        experiment,
        benchmark,
        challenges,
        outcomes,
        Path(common.model).name,
        network.config.key_depth,
        common.config.short_side,
        common.used_kmn_sigma(),
        network.device.type,
    )
    return _written(study, folder)


def _written(study: Study, folder: Path) -> ExperimentResult:
    """Returns what was found, once it is in the folder."""
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
    """Returns a zip for each run that was possible, as the benchmark's server takes it."""
    names, written = [challenge.name for challenge in study.challenges], []
    for outcome in study.outcomes:
        if outcome.results:
            target = folder / "submission" / f"{safe_name(str(outcome.run))}.zip"
            masks = outcome.folder.out / "masks" / safe_name(outcome.run.policy)
            write_submission(masks, names, target, study.benchmark.submission_top)
            written.append(target)
    return written
