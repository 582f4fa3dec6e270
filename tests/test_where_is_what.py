"""docs/where-is-what.md names files and functions that exist, and its examples work."""

import re
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/where-is-what.md").read_text(encoding="utf-8")
SOURCE = ROOT / "src/mnemask"
ROWS = re.findall(r"^\| [^|]+\? \| ([^|]+) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)


def example(word):
    """The code block in which a word stands."""
    blocks = [textwrap.dedent(block) for block in re.findall(r" *```python\n(.*?)```", PAGE, flags=re.DOTALL)]
    return next(block for block in blocks if word in block)


def test_every_file_on_the_page_exists():
    files = set(re.findall(r"(?<![\w/])((?:[a-z_]+/)*\w+\.py)\b", PAGE))
    places = (SOURCE, ROOT)
    assert sorted(name for name in files if not any((place / name).is_file() for place in places)) == []


@pytest.mark.parametrize(("files", "names"), ROWS)
def test_every_name_is_defined_in_the_file_beside_it(files, names):
    texts = [(SOURCE / file).read_text(encoding="utf-8") for file in re.findall(r"`([^`]+\.py)`", files)]
    for name in re.findall(r"`(\w+)`", names):
        defined = rf"^\s*(?:def|class) {name}\b|^\s*(?:self\.)?{name}\s*[:=]"
        assert any(re.search(defined, text, re.MULTILINE) for text in texts), f"{name} is not defined in {files}"


def test_the_example_of_a_policy_keeps_what_objects_fill_most(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests/memory"))
    from random_tokens import random_tokens

    from mnemask.memory.policies import scored
    from mnemask.memory.policies.base import Policy

    names = vars(scored) | {"Policy": Policy}
    exec(example("MostForeground"), names)
    memory, new = random_tokens([0, 0, 0, 0], [0] * 4, [False] * 4, 2), random_tokens([1, 1], [0, 0], [False] * 2, 2)
    kept = names["MostForeground"]().update(memory, new, 4)
    best = memory.mask_fraction.amax(0).topk(2).indices.sort().values
    assert kept.cell.tolist() == [*memory.cell[best].tolist(), *new.cell.tolist()]


def test_the_example_of_a_mask_format_writes_a_png(tmp_path, monkeypatch):
    from mnemask.io import MASK_FORMATS, MaskWriter, image_formats
    from mnemask.types import Masks

    names = {**vars(image_formats)}
    exec(example("BinaryMasks"), names)
    monkeypatch.setitem(MASK_FORMATS, "binary", names["BinaryMasks"])
    labels = torch.tensor([[0, 1], [2, 0]], dtype=torch.int32)
    with MaskWriter(tmp_path, "binary") as writer:
        writer.write(Masks(labels, torch.full((3, 2, 2), 1 / 3), (1, 2), name="00000"))
    assert cv2.imread(str(tmp_path / "00000.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 255], [255, 0]]


def test_the_example_of_a_dataset_opens_a_folder(tmp_path):
    from mnemask.datasets import video_sets

    names = {**vars(video_sets)}
    exec(example("MOSE"), names)
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (tmp_path / kind / "dog").mkdir(parents=True)
        for index in range(2):
            assert cv2.imwrite(str(tmp_path / kind / "dog" / f"{index:05d}.{ending}"), np.ones((8, 8), np.uint8))
    (video,) = names["MOSE"].open(tmp_path)
    assert (video.name, len(video.frames), sorted(video.masks)) == ("dog", 2, [0, 1])
