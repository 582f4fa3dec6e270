"""Whether a policy is better than others, from folders of results: pairs, p-values, and what it takes to tell.

Each folder is a run: the one of `mnemask evaluate`, or several, such as seeds or repetitions.
"""

import glob
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from mnemask.errors import InputError
from mnemask.evaluation.results import Result
from mnemask.evaluation.tables import Row
from mnemask.io.atomic import safe_name
from mnemask.metrics.report import MEASURES
from mnemask.metrics.significance import Difference, Scores, difference, fewest, holm, p_text
from mnemask.plugins import Call, label_of


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """A compared with one other.

    Attributes:
        a, b: their names.
        found: how they differ.
        p_holm: the p-value, corrected for all that A is compared with.
        left_out: sequences that not all results have.
    """

    a: str
    b: str
    found: Difference
    p_holm: float
    left_out: tuple[str, ...]

    def row(self, power_points: float) -> Row:
        """Returns a row of a table; scores are from 0 to 1."""
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
        """Returns a row for each sequence, the greatest gain first."""
        pairs = zip(self.found.sequences, self.found.by_sequence, strict=True)
        ordered = sorted(pairs, key=lambda pair: -pair[1])
        return [{"A": self.a, "B": self.b, "sequence": name, "gain": gain} for name, gain in ordered]

    def sentences(self, measure: str, power_points: float) -> list[str]:
        """Returns the conclusion in words."""
        found, (wins, ties, losses) = self.found, self.found.outcomes
        count, gain = len(found.sequences), 100 * found.gain
        how = "all exchanges counted" if found.exact else "99,999 exchanges drawn"
        verdict = "Chance seldom makes such a difference" if self.p_holm < 0.05 else "Chance makes such differences too"
        if count >= fewest():
            seen = f"; these {count} show {100 * found.visible():.1f}"
        else:
            few = f"{count} sequence{'' if count == 1 else 's'}"
            verdict, seen = f"With {few} no p-value is below {2 / 2**count:.3g}: this cannot settle it", ""
        said = [
            f"{self.a} against {self.b}: {gain:+.1f} points of {measure} ({100 * found.low:+.1f} to "
            f"{100 * found.high:+.1f}), p = {p_text(self.p_holm)} ({how}); better on {wins} of {count} sequences, "
            f"as good on {ties}, worse on {losses}. {verdict}.",
        ]
        if any(found.by_sequence):
            needed = found.sequences_needed(power_points / 100)
            said.append(
                f"A difference of {power_points:g} would show on {needed} sequences like these, with 80 % power{seen}."
            )
        else:
            said.append("No score differs: perhaps the videos are so short that nothing was evicted.")
        if len(found.by_run) > 1:
            said.append(f"By run: {', '.join(f'{100 * gain:+.1f}' for gain in found.by_run)}.")
        if self.left_out:
            shown = ", ".join(self.left_out[:5]) + (" …" if len(self.left_out) > 5 else "")
            said.append(f"Left out, since not all results have them: {shown} ({len(self.left_out)}).")
        return said


def compared(
    outs: Sequence[Path], a: str, others: Sequence[str] = (), measure: str = "J&F", level: float = 0.95
) -> list[PolicyComparison]:
    """Returns how A differs from others, with p-values that are corrected for their number.

    Args:
        outs: folders of `mnemask evaluate`, or folders of such folders; each is a run.
        a: a policy, or a folder of its results such as OUT/results/lfu, or a quoted glob of several, each a run.
        others: likewise; all others in `outs` by default.
        measure: "J&F", "J" or "F".
        level: of the intervals.

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
    """Returns the name of a policy's results; of one's own, as it was given to the command that scored it."""
    return label_of(Call.parse(name)) if ".py:" in name else name


def runs_in(out: Path) -> list[Path]:
    """Returns the folder, or those in it, that hold results; raises InputError where none does."""
    if (out / "results").is_dir():
        return [out]
    inside = sorted(path.parent for path in out.glob("*/results/"))
    if inside:
        return inside
    if settings := sorted(path.parent for path in out.glob("runs/*/results/")):
        raise InputError(
            f"{out} holds an experiment; its table has the p-values of its runs",
            f"to compare policies of one setting, give its folder, such as {settings[0]}",
        )
    raise InputError(f"there are no results in {out}", "give the folder of mnemask evaluate (-o)")


Results = Mapping[Path, Result]
"""The results of one policy in one run, by their files."""


def folders_of(runs: Sequence[Path], name: str) -> list[Path]:
    """Returns the folders of a policy's results, by its name in these runs or by a path of their own; absolute."""
    named = [Path(path) for path in sorted(glob.glob(name))] if "/" in name else []  # noqa: PTH207 - may be absolute
    return [path.absolute() for path in named or [run / "results" / safe_name(name) for run in runs]]


def _results_in(folder: Path) -> list[Path]:
    """Returns the files of results; hidden ones are what a killed run left."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def results_of(runs: Sequence[Path], name: str) -> list[Results]:
    """Returns the results of a policy in each run; raises InputError where a run has none, or two are the same."""
    folders = folders_of(runs, name)
    if not folders or (missing := [folder for folder in folders if not _results_in(folder)]):
        where = missing[0] if folders else name
        there = sorted({path.name for run in runs for path in run.glob("results/*/")})
        raise InputError(
            f"there are no results of {name!r} in {where}", f"there are {', '.join(there) or 'none at all'}"
        )
    found: list[Results] = [{path: load_result(path) for path in _results_in(folder)} for folder in folders]
    for (one, first), (other, second) in combinations(zip(folders, found, strict=True), 2):
        if list(first.values()) == list(second.values()):
            raise InputError(f"{other} is a copy of {one}, to the last digit of its times", "give each run once")
    return found


def scores_in(results: Results, measure: str) -> Scores:
    """Returns the scores of one run; raises InputError where a result has none."""
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
        raise InputError(f"{twice[0]} is given twice, and would count as two runs", "leave one out")


def _refuse_two_versions(results: Mapping[str, Sequence[Results]]) -> None:
    """Raises InputError if results of one name are of two versions of a policy that is not built in."""
    for name, runs in results.items():
        (known, first), *rest = (item for run in runs for item in run.items())
        for path, result in rest:
            if dict(result.own_policy) != dict(first.own_policy):
                raise InputError(
                    f"{path} and {known} are of two versions of {name}", "evaluate all sequences with one of them"
                )


def _refuse_other_videos(results: Mapping[str, Sequence[Results]]) -> None:
    """Raises InputError if results of one name are of different videos, or were scored against different masks."""
    first: dict[str, tuple[Path, Result]] = {}
    for path, result in (item for runs in results.values() for run in runs for item in run.items()):
        known, other = first.setdefault(result.sequence, (path, result))
        if result.num_frames != other.num_frames:
            raise InputError(
                f"{path} is of {result.num_frames} frames and {known} of {other.num_frames}",
                "evaluate both on the same video, in the same way (--ping-pong)",
            )
        if result.made_of and other.made_of and result.made_of != other.made_of:
            raise InputError(
                f"{path} and {known} were made of different frames or masks", "evaluate both on the same files"
            )


def load_result(path: Path) -> Result:
    """Returns a result of `mnemask evaluate`; raises InputError where the file is none."""
    try:
        return Result.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not a result ({type(error).__name__})", "delete it, and evaluate again") from error
