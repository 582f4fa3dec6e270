"""Strips of frames: what each run made of them, below the frames themselves and the truth (Figs. 9 and 10)."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.datasets.annotated import read_annotation
from mnemask.evaluation.protocol import Challenge, frame_names
from mnemask.experiments import style
from mnemask.experiments.plan import Run, Study, memory_text
from mnemask.metrics import VOID
from mnemask.metrics.region import region_similarity
from mnemask.video.images import read_image
from mnemask.video.label_files import Labels

TILE_INCHES = 2.3
LABEL_LETTERS = 17  # in a line as long as a tile is high


@dataclass(frozen=True, slots=True)
class Strips:
    """A picture of each sequence: rows are the frames, the truth and the runs, columns are frames in their order.

    The frames are those where the runs part most: the video is cut into as many stretches of one length as there are
    columns, and of each the frame is taken in which the runs' masks have least in common.

    Attributes:
        runs: in rows.
        columns: frames.
    """

    runs: tuple[Run, ...]
    columns: int = 6

    def draw(self, study: Study, folder: Path) -> list[Path]:
        """Returns a PNG for each sequence; nothing where no run was possible."""
        folders = {run: study.of(run).folder for run in self.runs if not study.of(run).refusal}
        if not folders:
            return []
        pictures = []
        for challenge in study.challenges:
            masks = {run: folder.masks(run.policy, challenge.name) for run, folder in folders.items()}
            target = folder / f"{study.experiment.name}-{challenge.name}.png"
            pictures.append(_draw_strip(challenge, masks, self.columns, target))
        return pictures


def _draw_strip(challenge: Challenge, masks: Mapping[Run, Path], columns: int, target: Path) -> Path:
    """Returns the picture of one sequence."""
    names = frame_names(challenge.given)
    asked = sorted(challenge.asked)
    alike = [in_common([_labels(folder, names[index]) for folder in masks.values()]) for index in asked]
    frames = [asked[place] for place in where_they_part(alike, columns)]
    images = [read_image(challenge.given.frames[index]).permute(1, 2, 0).numpy() for index in frames]
    truth = challenge.truth
    truths = [None if truth is None or index not in truth.masks else truth.read_labels(index) for index in frames]
    rows: list[tuple[str, Sequence[Labels | None]]] = [("source", [None] * len(frames))]
    if truth is not None:
        rows.append(("ground truth", truths))
    rows += [(_row_label(run), [_labels(folder, names[index]) for index in frames]) for run, folder in masks.items()]
    height = TILE_INCHES * images[0].shape[0] / images[0].shape[1]
    with style.figure(TILE_INCHES * len(frames) + 0.4, height * len(rows) + 0.5) as sheet:
        sheet.set_layout_engine("constrained", w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
        sheet.suptitle(challenge.name, x=0.03, ha="left", fontsize=12)
        grid = sheet.subplots(len(rows), len(frames), squeeze=False)
        for line, (label, labels) in zip(grid, rows, strict=True):
            line[0].set_ylabel(label)
            for axes, image, mask, true in zip(line, images, labels, truths, strict=True):
                axes.imshow(image if mask is None else outlined(image, mask), interpolation="none")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if mask is not None and mask is not true and true is not None:
                    box = {"facecolor": "black", "alpha": 0.65, "linewidth": 0, "pad": 2}
                    text = f"J {100 * _overlap(mask, true):.0f}"
                    axes.text(0.02, 0.04, text, color="white", bbox=box, transform=axes.transAxes)
        for axes, index in zip(grid[0], frames, strict=True):
            axes.set_title(f"frame {index}", fontsize=10, loc="center", pad=3)
        return style.save(sheet, target)


def where_they_part(alike: Sequence[float], count: int) -> list[int]:
    """Returns the numbers of `count` frames, or of all but the first if there are fewer, in order.

    Args:
        alike: of each frame, how much all runs have in common.
        count: frames that are wanted, one from each stretch of the video after its first frame, which was given.
    """
    stretches = np.array_split(np.arange(1, len(alike)), min(count, len(alike) - 1))
    return [
        min(stretch.tolist(), key=lambda place: (alike[place], abs(place - middle)))
        for stretch in stretches
        for middle in [stretch.mean()]
    ]


def in_common(masks: Sequence[Labels]) -> float:
    """Returns how much of what any mask of a frame shows all show alike, from 0 to 1."""
    shown = np.any([mask > 0 for mask in masks], axis=0)
    alike = np.all([mask == masks[0] for mask in masks], axis=0) & shown
    return float(alike.sum() / shown.sum()) if shown.any() else 1.0


def _overlap(mask: Labels, truth: Labels) -> float:
    """Returns the mean J over the objects of the truth's frame, or 1 or 0 where it shows none."""
    void = truth == VOID
    ids = [label for label in np.unique(truth).tolist() if label not in (0, VOID)] or [1]
    return float(np.mean([region_similarity(mask == label, truth == label, void) for label in ids]))


def outlined(image: UInt8[np.ndarray, "H W 3"], labels: Labels) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture with each object filled lightly and outlined, bright on a dark rim, in a colour of its own.

    The colours are those that all eyes tell apart, six in turn, and not the DAVIS palette.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(4 * min(labels.shape) / 480))
    for label in np.unique(labels[(labels > 0) & (labels != VOID)]).tolist():
        color = style.OBJECT_COLORS[(label - 1) % len(style.OBJECT_COLORS)]
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
    return read_annotation(folder / f"{name}.png")
