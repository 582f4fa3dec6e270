"""Small photographs and videos with masks, laid out as the training data is."""

from pathlib import Path

import cv2
import numpy as np


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def draw_photographs(root: Path, names: tuple[str, ...] = ("discs", "boxes"), count: int = 3) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        for index in range(count):
            image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (128, 96))
            mask = np.zeros((96, 128), np.uint8)
            cv2.circle(mask, (40, 40 + 5 * index), 18, 1, -1)
            cv2.rectangle(mask, (75, 30), (110, 60), 2, -1)
            image[mask == 1] = (30, 60, 200)
            write(root / "static" / name / "images" / f"{index:04d}.jpg", image)
            write(root / "static" / name / "masks" / f"{index:04d}.png", mask)


def draw_video(root: Path, name: str = "square", count: int = 12, newcomer_from: int | None = None) -> None:
    for index in range(count):
        frame = np.full((64, 80, 3), 90, np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        boxes = [(10 + index, 20)]
        if newcomer_from is not None and index >= newcomer_from:
            boxes.append((40, 42))
        for left, top in boxes:
            frame[top : top + 18, left : left + 18] = 220
            mask[top : top + 18, left : left + 18] = 1
        write(root / "video" / name / "frames" / f"{index:05d}.jpg", frame)
        write(root / "video" / name / "masks" / f"{index:05d}.png", mask)
