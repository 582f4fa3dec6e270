"""Scores over a setting: a line for each way to use it, level lines for what has no such setting (Fig. 11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnemask.evaluation.tables import Row, overall_rows
from mnemask.experiments import style
from mnemask.experiments.plan import Run, Study
from mnemask.experiments.rows import gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES, MARKERS = ("--", ":", "-."), "os^D"
Score = tuple[float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a picture.

    Attributes:
        label: in the legend.
        points: what is written below a point, and the run that it shows.
    """

    label: str
    points: tuple[tuple[str, Run], ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """J&F over a setting; below it, where the experiment has a baseline, the gain over that, sequence by sequence.

    Bands are 95 % bootstrap intervals over sequences. Points stand in even steps, whatever their distance. A run that
    is impossible has no point.

    Attributes:
        x: what the setting is called.
        lines: with the same points.
        levels: runs that do not have the setting, as level lines.
    """

    x: str
    lines: tuple[Line, ...]
    levels: tuple[Run, ...] = ()

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Returns the PNG and the SVG; nothing where there are no scores."""
        if not any(outcome.scored for outcome in study.outcomes):
            return []
        baseline = study.experiment.baseline
        below = baseline is not None and study.of(baseline).scored
        with style.figure(6.4, 6.4 if below else 4.2) as sheet:
            panels = list(sheet.subplots(2 if below else 1, 1, sharex=True, squeeze=False)[:, 0])
            self._panel(panels[0], study, None)
            panels[0].set_ylabel("J&F")
            if below and baseline is not None:
                self._panel(panels[1], study, baseline)
                panels[1].set_ylabel(f"J&F above {baseline.label}")
            panels[0].set_title(study.experiment.title)
            sheet.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
            ticks = [tick for tick, _ in self.lines[0].points]
            panels[-1].set_xticks(range(len(ticks)), ticks)
            count = len(study.challenges)
            bands = f"\nbands: 95 % bootstrap intervals over {count} sequences" if count > 1 else ""
            panels[-1].set_xlabel(self.x + bands)
            return [style.save(sheet, folder / f"{study.experiment.name}{suffix}") for suffix in (".png", ".svg")]

    def _panel(self, axes: "Axes", study: Study, baseline: Run | None) -> None:
        """Draws all lines: of the scores, or of the gain over a baseline, where no other level is drawn."""
        for number, line in enumerate(self.lines):
            scores = [_score(study, run, baseline) for _, run in line.points]
            _draw_line(axes, line.label, scores, style.COLORS[number], MARKERS[number % len(MARKERS)])
        last = len(self.lines[0].points) - 1
        for number, run in enumerate(self.levels):
            score = _score(study, run, baseline)
            # Of gains only those that belong together: one level far away would press the lines flat.
            if score is not None and baseline in (None, run):
                color = style.COLORS[(len(self.lines) + number) % len(style.COLORS)]
                axes.plot(
                    [0, last], [score[0]] * 2, DASHES[number % len(DASHES)], color=color, label=run.label, zorder=1.5
                )


def _draw_line(axes: "Axes", label: str, scores: Sequence[Score | None], color: str, marker: str) -> None:
    """Draws what there is of a line and its band."""
    known = [(x, score) for x, score in enumerate(scores) if score is not None]
    if not known:
        return
    axes.plot([x for x, _ in known], [score[0] for _, score in known], f"{marker}-", color=color, label=label)
    band = [(x, low, high) for x, (_, low, high) in known if low is not None and high is not None]
    if band:
        places, lows, highs = zip(*band, strict=True)
        axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)


def _score(study: Study, run: Run, baseline: Run | None) -> Score | None:
    """Returns J&F of a run, or its gain, in percent and with its interval; None where there is none."""
    outcome = study.of(run)
    if not outcome.scored:
        return None
    row = overall_rows(outcome.results)[0] if baseline is None else gain(outcome.results, study.of(baseline).results)
    names = ("J&F-Mean", "J&F-Low", "J&F-High") if baseline is None else ("gain", "gain-Low", "gain-High")
    mean, low, high = (_percent(row, name) for name in names)
    return None if mean is None else (mean, low, high)


def _percent(row: Row, name: str) -> float | None:
    value = row[name]
    return 100 * value if isinstance(value, float) else None
