"""Measures the quality and speed of masks from simulated clicks and boxes, and of GrabCut; prints Markdown tables.

    python benchmarks/clicks.py DATA [--set photographs|choosing|davis] [--limit N] [--head FILE] [--sheet FILE.png]
    python benchmarks/clicks.py DATA --speed

Sets: "photographs", the 300 photographs of DATA/static that `mnemask train-clicks` leaves out; "choosing", every tenth
frame of the six training videos that it leaves out, on which settings are chosen; "davis", the first frames of
DATA/davis2016-dev, for the record only. The first click is deep inside the object, each further one in the middle of
the widest error (RITM's protocol), with the last mask fed back. GrabCut gets the same clicks, as dots, or the true box;
if it finds nothing, it scores 0.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image

import mnemask as mm
from mnemask.bench.machine import processor_name
from mnemask.datasets.real_video import SELECTION
from mnemask.errors import MaskError
from mnemask.prompts.clicks import ClickSegmenter, ClickSession
from mnemask.training.click_data import Click, ClickPicture, drawn_box, iou, list_pictures, next_click

MOST_CLICKS = 20
SHOWN = (1, 3, 5)
GOAL = 0.85


@dataclass
class Case:
    """One object of one picture, and the IoU of its mask from each kind of prompt."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    truth: UInt8[np.ndarray, "H W"]
    scores: dict[str, float] = field(default_factory=dict)
    needed: int = MOST_CLICKS


def photographs(root: Path) -> Iterator[Case]:
    """Yields the largest suitable object of each photograph that is left out."""
    for picture in list_pictures(root):
        if picture.held_out:
            image, values = picture.read()
            for truth in picture.objects(values)[:1]:
                yield Case(f"{picture.set_name}/{picture.image.stem}", image, truth)


def frames_to_choose_on(root: Path) -> Iterator[Case]:
    """Yields every tenth frame of the videos that are left out of all training."""
    for name in sorted(SELECTION):
        folder = root / "video_train" / "davis2016_train" / name
        for image in sorted((folder / "frames").iterdir())[::10]:
            picture = ClickPicture(image, folder / "masks" / f"{image.stem}.png", "davis2016_train", video=True)
            pixels, values = picture.read()
            for truth in picture.objects(values)[:1]:
                yield Case(f"{name}/{image.stem}", pixels, truth)


def davis(root: Path) -> Iterator[Case]:
    """Yields the first frame of each sequence."""
    for folder in sorted((root / "davis2016-dev" / "JPEGImages" / "480p").iterdir()):
        image = min(folder.iterdir())
        mask = root / "davis2016-dev" / "Annotations" / "480p" / folder.name / f"{image.stem}.png"
        yield Case(
            folder.name,
            np.asarray(Image.open(image).convert("RGB")),
            (np.asarray(Image.open(mask)) > 0).astype(np.uint8),
        )


SETS = {"photographs": photographs, "choosing": frames_to_choose_on, "davis": davis}


def measure(case: Case, segmenter: ClickSegmenter, with_grabcut: bool) -> list[Bool[np.ndarray, "H W"]]:
    """Fills in a case's scores; returns the masks after each number of clicks that is shown."""
    session = segmenter.open(case.image)
    shown: list[Bool[np.ndarray, "H W"]] = []
    masks = click_through(case, session)
    for number, (mask, clicks) in enumerate(masks, 1):
        if number in SHOWN:
            shown.append(mask)
            if with_grabcut:
                case.scores[f"GrabCut, {counted(number)}"] = iou(case.truth, grabcut_clicks(case, clicks))
    if with_grabcut:
        case.scores["GrabCut, box"] = iou(case.truth, grabcut_box(case))
    box = drawn_box(case.truth)
    try:
        mask = session.mask(box=box).numpy()
    except MaskError:  # the object covers the picture
        box, mask = None, np.zeros(case.truth.shape, bool)
    case.scores["box"] = iou(case.truth, mask)
    clicks = []
    for number in (1, 2):
        click = next_click(case.truth, mask)
        clicks += [] if click is None else [click]
        mask = apply(session, clicks, box, mask if mask.any() else None) if clicks else mask
        case.scores[f"box, {counted(number)}"] = iou(case.truth, mask)
    return shown


def click_through(case: Case, session: ClickSession) -> Iterator[tuple[Bool[np.ndarray, "H W"], list[Click]]]:
    """Yields the mask after each click, until the goal is reached and all numbers of clicks in `SHOWN` are done."""
    mask = np.zeros(case.truth.shape, bool)
    clicks: list[Click] = []
    reached = False
    for number in range(1, MOST_CLICKS + 1):
        click = next_click(case.truth, mask)
        if click is not None:
            clicks.append(click)
            mask = apply(session, clicks, None, mask if mask.any() else None)
        score = iou(case.truth, mask)
        if not reached and score >= GOAL:
            case.needed, reached = number, True
        if number in SHOWN:
            case.scores[counted(number)] = score
        yield mask, clicks
        if reached and number >= max(SHOWN):
            return


def apply(
    session: ClickSession,
    clicks: Sequence[Click],
    box: tuple[int, int, int, int] | None,
    previous: Bool[np.ndarray, "H W"] | None,
) -> Bool[np.ndarray, "H W"]:
    places = {sign: [(c.x, c.y) for c in clicks if c.sign == sign] for sign in (1, -1)}
    found: Bool[np.ndarray, "H W"] = session.mask(places[1], places[-1], box, previous).numpy()
    return found


def grabcut_clicks(case: Case, clicks: Sequence[Click]) -> Bool[np.ndarray, "H W"]:
    dots: dict[int, list[list[tuple[int, int]]]] = {}
    for click in clicks:
        dots.setdefault(int(click.sign > 0), []).append([(click.x, click.y)])
    try:
        return mm.mask_from_scribble(case.image, dots)[1].numpy()
    except MaskError:
        return np.zeros(case.truth.shape, bool)


def grabcut_box(case: Case) -> Bool[np.ndarray, "H W"]:
    try:
        return mm.mask_from_box(case.image, drawn_box(case.truth)).numpy()
    except MaskError:
        return np.zeros(case.truth.shape, bool)


def counted(clicks: int) -> str:
    return "1 click" if clicks == 1 else f"{clicks} clicks"


def table(cases: Sequence[Case]) -> str:
    """Returns the means over all cases, and how many clicks the goal takes."""
    names = list(dict.fromkeys(name for case in cases for name in case.scores))
    lines = [f"| from | mean IoU of {len(cases)} | at least {GOAL} |", "|---|---|---|"]
    for name in names:
        scores = [case.scores[name] for case in cases if name in case.scores]
        lines.append(f"| {name} | {np.mean(scores):.3f} | {100 * np.mean([s >= GOAL for s in scores]):.0f} % |")
    needed = [case.needed for case in cases]
    failed = sum(case.scores.get("5 clicks", 0) < GOAL and case.needed == MOST_CLICKS for case in cases)
    lines.append("")
    lines.append(
        f"Clicks to reach IoU {GOAL}: mean {np.mean(needed):.2f}, median {median(needed):.0f}; "
        f"not within {MOST_CLICKS} clicks: {failed} of {len(cases)}."
    )
    return "\n".join(lines)


def sheet_row(case: Case, masks: Sequence[Bool[np.ndarray, "H W"]], width: int = 320) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture with the true mask, and with the masks after 1, 3 and 5 clicks, side by side."""
    tiles = []
    for mask in [case.truth == 1, *masks]:
        tile = case.image.copy()
        tile[mask] = tile[mask] // 2 + np.array([127, 0, 64], np.uint8)
        tiles.append(cv2.resize(tile, (width, round(width * 0.66)), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


def speed(root: Path, segmenter: ClickSegmenter) -> None:
    """Prints the time to open a frame of 854×480 and the time for each mask."""
    case = next(davis(root))
    opening, clicking = [], []
    for _ in range(5):
        begin = time.perf_counter()
        session = segmenter.open(case.image)
        opening.append(time.perf_counter() - begin)
        places = [(427, 240)]
        for number in range(8):
            begin = time.perf_counter()
            session.mask(places, [(10, 10 + number)])
            clicking.append(time.perf_counter() - begin)
    print(
        f"{processor_name()}, {torch.get_num_threads()} threads, {segmenter.model.dtype}: a frame of 854×480 "
        f"{1000 * median(opening):.0f} ms once, each mask {1000 * median(clicking):.0f} ms (fastest "
        f"{1000 * min(clicking):.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=SETS, default="photographs")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--head", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--no-grabcut", action="store_true")
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    segmenter = ClickSegmenter(mm.load_model(), options.head)
    if options.speed:
        speed(options.data, segmenter)
        return
    cases, rows = [], []
    for case in SETS[options.set](options.data):
        masks = measure(case, segmenter, not options.no_grabcut)
        if options.sheet and len(rows) < 24:
            rows.append(sheet_row(case, masks))
        case.image = case.truth = np.zeros((1, 1), np.uint8)  # only the scores are still needed
        cases.append(case)
        if len(cases) == options.limit:
            break
    print(table(cases))
    worst = sorted(cases, key=lambda case: case.scores["5 clicks"])[:8]
    print("\nWorst after 5 clicks:", ", ".join(f"{c.name} {c.scores['5 clicks']:.2f}" for c in worst))
    if options.sheet:
        cv2.imwrite(str(options.sheet), np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    main()
