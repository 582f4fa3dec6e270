"""The figures of an experiment: curves over a setting (Fig. 11) and strips of frames (Figs. 9 and 10).

All share one style, with colours that are distinct for all kinds of colour vision.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.comparison.charts import OKABE_ITO
from mnemask.errors import OutputError, missing_extra
from mnemask.evaluation.benchmark import BenchmarkSequence, frame_names
from mnemask.evaluation.tables import Row, overall_rows
from mnemask.experiments.plan import Run, Study, memory_text
from mnemask.experiments.rows import gain
from mnemask.io.atomic import unfinished
from mnemask.io.image_sequences import levels_of_frames
from mnemask.io.images import read_image
from mnemask.io.label_files import Labels, read_labels
from mnemask.io.written import Written
from mnemask.memory.policies import policy_named
from mnemask.metrics.davis import region_similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = OKABE_ITO
# For objects in photographs: bright colours first.
OBJECT_COLORS = ((240, 100, 0), (86, 180, 233), (240, 228, 66), (0, 170, 120), (230, 140, 190), (0, 114, 178))
INK, FAINT = "#222222", "#8a8a8a"

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mnemask",  # the same figure gives the same file
}


@contextmanager
def figure(width: float, height: float) -> Iterator["Figure"]:
    """Yields an empty figure in the project's style, to be drawn and saved within the context; needs no display.

    Args:
        width: width in inches.
        height: height in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ImportError as error:
        raise missing_extra("figures need matplotlib", "figures") from error
    with context(STYLE):
        # Not a pyplot figure: this one is drawn by Agg or as SVG, and freed when it is no longer referenced.
        yield Figure(figsize=(width, height), layout="constrained")


def require_matplotlib() -> None:
    """Raises MissingExtraError if matplotlib is not installed."""
    with figure(1.0, 1.0):
        pass


def save(drawn: "Figure", path: Path) -> Path:
    """Writes a figure in the format of the path's suffix and returns the path.

    Raises:
        OutputError: it cannot be written, or `path` is a file that is not an earlier figure.
    """
    try:
        with unfinished(path) as partial:
            drawn.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
            Written(path.parent).publish(partial, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r} ({error.strerror})", "make room or give another place"
        ) from error
    return path


DASHES, MARKERS = ("--", ":", "-."), "os^D"
Score = tuple[float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a figure.

    Attributes:
        label: the name in the legend.
        points: the tick label and the run of each point.
    """

    label: str
    points: tuple[tuple[str, Run], ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """J&F over a setting; below it, if the experiment has a baseline, the gain over that, paired by sequence.

    Bands are 95 % bootstrap intervals over sequences. Points are evenly spaced, whatever their values. Impossible runs
    have no point.

    Attributes:
        x: the name of the setting.
        lines: the lines, all with the same points.
        levels: runs without the setting, drawn as horizontal lines.
    """

    x: str
    lines: tuple[Line, ...]
    levels: tuple[Run, ...] = ()

    def with_policies(self, names: Sequence[str]) -> tuple["Curves", tuple[Run, ...]]:
        """Returns the figure with a line added for each new policy, and the runs of these lines.

        A policy that has no budget becomes a horizontal line.
        """
        there = {run.policy for line in self.lines for _, run in line.points} | {run.policy for run in self.levels}
        new = [name for name in names if name not in there]
        levels = tuple(Run(name, name) for name in new if policy_named(name).default_frames is None)
        lines = tuple(self._line(name) for name in new if name not in {run.policy for run in levels})
        runs = (*levels, *(run for line in lines for _, run in line.points))
        return replace(self, lines=(*self.lines, *lines), levels=(*self.levels, *levels)), runs

    def _line(self, policy: str) -> "Line":
        """Returns a line for this policy, with the points of the first line."""
        ticks, runs = zip(*self.lines[0].points, strict=True)
        settings = [run.label.rpartition(", ")[2] for run in runs]
        same = len(set(settings)) == 1  # the runs then differ in their budgets
        labels = [policy if same else f"{policy}, {setting}" for setting in settings]
        others = (replace(run, label=label, policy=policy) for run, label in zip(runs, labels, strict=True))
        return Line(policy, tuple(zip(ticks, others, strict=True)))

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Writes a PNG and an SVG and returns their paths; none if there are no scores."""
        if not any(outcome.scored for outcome in study.outcomes):
            return []
        baseline = study.experiment.baseline
        below = baseline is not None and study.of(baseline).scored
        with figure(6.4, 6.4 if below else 4.2) as sheet:
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
            count = len(study.sequences)
            bands = f"\nbands: 95 % bootstrap intervals over {count} sequences" if count > 1 else ""
            panels[-1].set_xlabel(self.x + bands)
            return [save(sheet, folder / f"{study.experiment.name}{suffix}") for suffix in (".png", ".svg")]

    def _panel(self, axes: "Axes", study: Study, baseline: Run | None) -> None:
        """Draws all lines: the scores, or the gains over a baseline with no other horizontal line than the baseline."""
        for number, line in enumerate(self.lines):
            scores = [_score(study, run, baseline) for _, run in line.points]
            _draw_line(axes, line.label, scores, COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)])
        last = len(self.lines[0].points) - 1
        for number, run in enumerate(self.levels):
            score = _score(study, run, baseline)
            # In a plot of gains, a horizontal line far away would compress the others.
            if score is not None and baseline in (None, run):
                color = COLORS[(len(self.lines) + number) % len(COLORS)]
                axes.plot(
                    [0, last], [score[0]] * 2, DASHES[number % len(DASHES)], color=color, label=run.label, zorder=1.5
                )


def _draw_line(axes: "Axes", label: str, scores: Sequence[Score | None], color: str, marker: str) -> None:
    """Draws the known points of a line, and its band."""
    known = [(x, score) for x, score in enumerate(scores) if score is not None]
    if not known:
        return
    axes.plot([x for x, _ in known], [score[0] for _, score in known], f"{marker}-", color=color, label=label)
    band = [(x, low, high) for x, (_, low, high) in known if low is not None and high is not None]
    if band:
        places, lows, highs = zip(*band, strict=True)
        axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)


def _score(study: Study, run: Run, baseline: Run | None) -> Score | None:
    """Returns J&F of a run, or its gain over a baseline, in percent with its interval; None if there is no score."""
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


TILE_INCHES = 2.3
LABEL_LETTERS = 17  # that fit into a line as long as a tile is high


@dataclass(frozen=True, slots=True)
class Strips:
    """A figure for each sequence: rows are the source, the true masks and the runs, columns are frames in order.

    The frames are those in which the runs differ most: the video is divided into as many equal stretches as there are
    columns, and each column shows the frame of its stretch in which the runs' masks have least in common.

    Attributes:
        runs: the runs, one per row.
        columns: the number of frames.
    """

    runs: tuple[Run, ...]
    columns: int = 6

    def with_policies(self, names: Sequence[str]) -> tuple["Strips", tuple[Run, ...]]:
        """Returns the figure with a row added for each new policy, and their runs."""
        there = {str(run) for run in self.runs}
        more = tuple(Run(name, name) for name in names if str(Run(name, name)) not in there)
        return replace(self, runs=(*self.runs, *more)), more

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Writes a PNG for each sequence and returns their paths; none if no run was possible."""
        folders = {run: study.of(run).folder for run in self.runs if not study.of(run).refusal}
        if not folders:
            return []
        pictures = []
        for sequence in study.sequences:
            masks = {run: folder.masks(run.policy, sequence.name) for run, folder in folders.items()}
            target = folder / f"{study.experiment.name}-{sequence.name}.png"
            pictures.append(_draw_strip(sequence, masks, self.columns, target))
        return pictures


def _draw_strip(sequence: BenchmarkSequence, masks: Mapping[Run, Path], columns: int, target: Path) -> Path:
    """Writes the figure of one sequence and returns its path."""
    names = frame_names(sequence.given)
    asked = sorted(sequence.asked)
    alike = [in_common([_labels(folder, names[index]) for folder in masks.values()]) for index in asked]
    frames = [asked[place] for place in where_they_part(alike, columns)]
    levels = levels_of_frames(sequence.given.frames)
    images = [read_image(sequence.given.frames[index], levels).permute(1, 2, 0).numpy() for index in frames]
    truth = sequence.truth
    void = None if truth is None else truth.void
    truths = [None if truth is None or index not in truth.masks else truth.read_labels(index) for index in frames]
    rows: list[tuple[str, Sequence[Labels | None]]] = [("source", [None] * len(frames))]
    if truth is not None:
        rows.append(("ground truth", truths))
    rows += [(_row_label(run), [_labels(folder, names[index]) for index in frames]) for run, folder in masks.items()]
    height = TILE_INCHES * images[0].shape[0] / images[0].shape[1]
    with figure(TILE_INCHES * len(frames) + 0.4, height * len(rows) + 0.5) as sheet:
        sheet.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
        sheet.suptitle(sequence.name, x=0.03, ha="left", fontsize=12)
        grid = sheet.subplots(len(rows), len(frames), squeeze=False)
        for line, (label, labels) in zip(grid, rows, strict=True):
            line[0].set_ylabel(label)
            for axes, image, mask, true in zip(line, images, labels, truths, strict=True):
                axes.imshow(image if mask is None else outlined(image, mask, void), interpolation="none")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if mask is not None and mask is not true and true is not None:
                    box = {"facecolor": "black", "alpha": 0.65, "linewidth": 0, "pad": 2}
                    text = f"J {100 * _overlap(mask, true, void):.0f}"
                    axes.text(0.02, 0.04, text, color="white", bbox=box, transform=axes.transAxes)
        for axes, index in zip(grid[0], frames, strict=True):
            axes.set_title(f"frame {index}", fontsize=10, loc="center", pad=3)
        return save(sheet, target)


def where_they_part(alike: Sequence[float], count: int) -> list[int]:
    """Returns the indices of `count` frames, or of all but the first if there are fewer, in order.

    Args:
        alike: for each frame, how much all runs have in common.
        count: the number of frames, one from each stretch of the video after its first frame, which was given.
    """
    stretches = np.array_split(np.arange(1, len(alike)), min(count, len(alike) - 1))
    return [
        min(stretch.tolist(), key=lambda place: (alike[place], abs(place - middle)))
        for stretch in stretches
        for middle in [stretch.mean()]
    ]


def in_common(masks: Sequence[Labels]) -> float:
    """Returns the fraction of pixels with an object in any mask at which all masks are equal; 1 if there are none."""
    shown = np.any([mask > 0 for mask in masks], axis=0)
    alike = np.all([mask == masks[0] for mask in masks], axis=0) & shown
    return float(alike.sum() / shown.sum()) if shown.any() else 1.0


def _overlap(mask: Labels, truth: Labels, void: int | None) -> float:
    """Returns the mean J over the objects of the true mask; if it has none, 1 if the other has none either, else 0."""
    ids = set(np.unique(truth).tolist()) - {0, void}
    if not ids:
        return float(not mask[truth == 0].any())
    ignored = None if void is None else truth == void
    return float(np.mean([region_similarity(mask == label, truth == label, ignored) for label in sorted(ids)]))


def outlined(image: UInt8[np.ndarray, "H W 3"], labels: Labels, void: int | None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the image with each object filled lightly and outlined, bright on a dark rim, in its own colour.

    The six colours, used in turn, are distinct for all kinds of colour vision, unlike the DAVIS palette.

    Args:
        image: the picture.
        labels: the object id at each pixel, 0 for the background.
        void: the label that is not drawn; None if all are objects.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(4 * min(labels.shape) / 480))
    for label in sorted(set(np.unique(labels).tolist()) - {0, void}):
        color = OBJECT_COLORS[(label - 1) % len(OBJECT_COLORS)]
        mask = labels == label
        drawn[mask] = (0.65 * drawn[mask] + 0.35 * np.array(color)).astype(np.uint8)
        shapes, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, shapes, -1, (20, 20, 20), 2 * thickness, cv2.LINE_AA)
        cv2.drawContours(drawn, shapes, -1, color, thickness, cv2.LINE_AA)
    return drawn


def _row_label(run: Run) -> str:
    lines = textwrap.wrap(run.label, LABEL_LETTERS)
    return "\n".join(lines if run.budget is None else [*lines, memory_text(run.budget)])


def _labels(folder: Path, name: str) -> Labels:
    return read_labels(folder / f"{name}.png")
