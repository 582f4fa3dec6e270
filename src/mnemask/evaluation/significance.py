"""Whether a policy is better than others, from folders of results: paired differences, p-values, and sample sizes.

Each folder of `mnemask evaluate` is a run; several runs may be different seeds or repetitions.
"""

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from mnemask.errors import InputError, counted
from mnemask.evaluation.results import Result, read_result
from mnemask.evaluation.tables import Row
from mnemask.io.atomic import safe_name
from mnemask.metrics.report import MEASURES
from mnemask.metrics.significance import Difference, Scores, difference, fewest, holm, p_text
from mnemask.plugins import Call, label_of


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """The comparison of policy A with another, B.

    Attributes:
        a, b: their names.
        found: their difference.
        p_holm: the p-value, corrected by Holm for the number of policies compared with A.
        left_out: sequences that are missing from some results.
    """

    a: str
    b: str
    found: Difference
    p_holm: float
    left_out: tuple[str, ...]

    def row(self, power_points: float) -> Row:
        """Returns a row of a table, with scores from 0 to 1."""
        wins, ties, losses = self.found.outcomes
        return {
            "A": self.a,
            "B": self.b,
            "A-Mean": self.found.mean_a,
            "B-Mean": self.found.mean_b,
            "gain": self.found.gain,
            "gain-Low": self.found.low,
            "gain-High": self.found.high,
            "p": self.found.p,
            "p-Holm": self.p_holm,
            "wins": wins,
            "ties": ties,
            "losses": losses,
            "sequences": len(self.found.sequences),
            "objects": self.found.num_objects,
            f"needed for {power_points:g}": self.found.sequences_needed(power_points / 100),
        }

    def sequence_rows(self) -> list[Row]:
        """Returns a row for each sequence, in descending order of gain."""
        pairs = zip(self.found.sequences, self.found.by_sequence, strict=True)
        ordered = sorted(pairs, key=lambda pair: -pair[1])
        return [{"A": self.a, "B": self.b, "sequence": name, "gain": gain} for name, gain in ordered]

    def sentences(self, measure: str, power_points: float) -> list[str]:
        """Returns the conclusion in words."""
        found, (wins, ties, losses) = self.found, self.found.outcomes
        count, gain = len(found.sequences), 100 * found.gain
        how = "all exchanges counted" if found.exact else "99,999 exchanges drawn"
        verdict = "Chance rarely makes such a difference" if self.p_holm < 0.05 else "Chance can make such a difference"
        if count >= fewest():
            seen = f"; these {count} can show {100 * found.visible():.1f}"
        else:
            few = counted(count, "sequence")
            verdict, seen = f"With {few} no p-value is below {2 / 2**count:.3g}, so this is inconclusive", ""
        said = [
            f"{self.a} against {self.b}: {gain:+.1f} points of {measure} ({100 * found.low:+.1f} to "
            f"{100 * found.high:+.1f}), p = {p_text(self.p_holm)} ({how}); better on {wins} of {count} sequences, "
            f"equal on {ties}, worse on {losses}. {verdict}.",
        ]
        if any(found.by_sequence):
            needed = found.sequences_needed(power_points / 100)
            said.append(
                f"A difference of {power_points:g} would show on {needed} sequences like these, with 80 % power{seen}."
            )
        else:
            said.append("No score differs: the videos may be so short that nothing was evicted.")
        if len(found.by_run) > 1:
            said.append(f"By run: {', '.join(f'{100 * gain:+.1f}' for gain in found.by_run)}.")
        if self.left_out:
            shown = ", ".join(self.left_out[:5]) + (" …" if len(self.left_out) > 5 else "")
            said.append(f"Left out, as they are missing from some results: {shown} ({len(self.left_out)}).")
        return said


def compared(
    outs: Sequence[Path], a: str, others: Sequence[str] = (), measure: str = "J&F", level: float = 0.95
) -> list[PolicyComparison]:
    """Returns how A differs from each of the others, with p-values corrected for their number.

    Args:
        outs: folders of `mnemask evaluate`, or folders of such folders; each is a run.
        a: a policy, or a folder of its results such as OUT/results/lfu, or a glob of several, each a run.
        others: the policies to compare it with, in the same form; by default all others in `outs`.
        measure: "J&F", "J" or "F".
        level: the confidence level of the intervals.

    Raises:
        InputError: there are no such results, or they cannot be compared.
    """
    if measure not in MEASURES:
        raise InputError(f"measure {measure!r} is unknown", f"choose one of {', '.join(MEASURES)}")
    a, others = _label(a), [_label(other) for other in others]
    runs = [run for out in outs for run in runs_in(out)]
    known = sorted(set.intersection(*({path.name for path in run.glob("results/*/")} for run in runs))) if runs else []
    mine = set(folders_of(runs, a))
    others = list(dict.fromkeys(others)) or [name for name in known if mine.isdisjoint(folders_of(runs, name))]
    if not others:
        raise InputError(f"there is nothing to compare {a} with", "evaluate another policy too, or name it (--b)")
    if a in others:
        raise InputError(f"{a} is compared with itself", "give another --b")
    _refuse_twice(runs)
    results = {name: results_of(runs, name) for name in (a, *others)}
    _refuse_other_videos(results)
    _refuse_two_versions(results)
    ours = [scores_in(run, measure) for run in results[a]]
    found = []
    for other in others:
        theirs = [scores_in(run, measure) for run in results[other]]
        every = {name: None for scores in (*ours, *theirs) for name in scores}
        result = difference(ours, theirs, level=level)
        found.append((other, result, tuple(name for name in every if name not in result.sequences)))
    corrected = holm([result.p for _, result, _ in found])
    return [
        PolicyComparison(a, other, result, p, left_out)
        for (other, result, left_out), p in zip(found, corrected, strict=True)
    ]


def _label(name: str) -> str:
    """Returns the name of a policy's results; the user's own policy is given as to the command that scored it."""
    return label_of(Call.parse(name)) if ".py:" in name else name


def runs_in(out: Path) -> list[Path]:
    """Returns the folder, or its subfolders, that hold results; raises InputError if none does."""
    if (out / "results").is_dir():
        return [out]
    inside = sorted(path.parent for path in out.glob("*/results/"))
    if inside:
        return inside
    if settings := sorted(path.parent for path in out.glob("runs/*/results/")):
        raise InputError(
            f"{out} holds an experiment, whose table already has the p-values of its runs",
            f"to compare the policies of one setting, give its folder, such as {settings[0]}",
        )
    raise InputError(f"there are no results in {out}", "give the folder of mnemask evaluate (-o)")


Results = Mapping[Path, Result]
"""The results of one policy in one run, by their files."""


def folders_of(runs: Sequence[Path], name: str) -> list[Path]:
    """Returns the absolute paths of a policy's folders of results; `name` is its name in these runs, or a path."""
    named = [Path(path) for path in sorted(glob.glob(name))] if "/" in name else []  # noqa: PTH207 - may be absolute
    return [path.absolute() for path in named or [run / "results" / safe_name(name) for run in runs]]


def _results_in(folder: Path) -> list[Path]:
    """Returns the files of results, without hidden ones, which are remains of killed runs."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def results_of(runs: Sequence[Path], name: str) -> list[Results]:
    """Returns the results of a policy in each run; raises InputError if a run has none, or two are equal."""
    folders = folders_of(runs, name)
    if not folders or (missing := [folder for folder in folders if not _results_in(folder)]):
        where = missing[0] if folders else name
        beside = sorted(missing[0].parent.glob("*/")) if folders else []
        there = [path.name for path in beside if _results_in(path)]
        raise InputError(
            f"there are no results of {name!r} in {where}", f"there are {', '.join(there) or 'none at all'}"
        )
    found: list[Results] = [{path: read_result(path) for path in _results_in(folder)} for folder in folders]
    for (one, first), (other, second) in combinations(zip(folders, found, strict=True), 2):
        if list(first.values()) == list(second.values()):
            raise InputError(f"{other} is a copy of {one}, to the last digit of its times", "give each run once")
    return found


def scores_in(results: Results, measure: str) -> Scores:
    """Returns the scores of one run; raises InputError if a result has none."""
    scores: dict[str, dict[int, float]] = {}
    for path, result in results.items():
        if result.report is None:
            raise InputError(f"{path} has no scores", "the true masks of this subset are secret: take another one")
        scores.update(result.report.object_scores(measure))
    return scores


def _refuse_twice(runs: Sequence[Path]) -> None:
    """Raises InputError if a folder is given twice: it would count as two runs that agree."""
    times = Counter(run.resolve() for run in runs)
    if twice := [run for run in runs if times[run.resolve()] > 1]:
        raise InputError(f"{twice[0]} is given twice, and would count as two runs", "give it once")


def _refuse_two_versions(results: Mapping[str, Sequence[Results]]) -> None:
    """Raises InputError if results under one name are from two versions of a policy that is not built in."""
    for name, runs in results.items():
        (known, first), *rest = (item for run in runs for item in run.items())
        for path, result in rest:
            if dict(result.own_policy) != dict(first.own_policy):
                raise InputError(
                    f"{path} and {known} are from two versions of {name}", "evaluate all sequences with one of them"
                )


def _refuse_other_videos(results: Mapping[str, Sequence[Results]]) -> None:
    """Raises InputError if results of one sequence are from different videos, or were scored on different masks."""
    first: dict[str, tuple[Path, Result]] = {}
    for path, result in (item for runs in results.values() for run in runs for item in run.items()):
        known, other = first.setdefault(result.sequence, (path, result))
        if result.num_frames != other.num_frames:
            raise InputError(
                f"{path} has {result.num_frames} frames, but {known} has {other.num_frames}",
                "evaluate both on the same video, in the same way (--ping-pong)",
            )
        if result.made_of and other.made_of and result.made_of != other.made_of:
            raise InputError(
                f"{path} and {known} were made of different frames or masks", "evaluate both on the same files"
            )
