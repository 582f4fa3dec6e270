"""Runs every command of docs/reproduce.md in small: generated data, frames of 48 pixels, two steps of each training.

    python benchmarks/rehearse_thesis.py [FOLDER] [--only table1] [--list]

FOLDER (a temporary one by default) gets the layout that the page asks for: DAVIS, YouTube-VOS and photographs in their
published layouts, a random network in the format of `stcn.pth`, and a random ResNet. The commands are those of the
page, with options that make them small; instead of the large network the compact one is trained. Prints a line for
each command; the exit code is 1 if one fails. This shows that the commands work, and nothing about figures.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mnemask.model.checkpoints import SIZES
from mnemask.model.stcn import STCN

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reproduce.md"
sys.path.insert(0, str(ROOT / "tests"))
FRAMES = 12
SMALL = {
    "train": "--steps 2 --batch 2 --workers 0 --accelerator cpu --precision float32",
    "table5.py": "--steps 2 --batch 2 --workers 0 --frames 4",
    "experiment": "--size 48 --device cpu",
    "evaluate": "--size 48 --device cpu",
}
LARGE = ("--devices", "--workers", "--processes")


def commands(page: Path = PAGE) -> list[list[str]]:
    """Returns the commands of the page's blocks, each as a list of words."""
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(("mnemask ", "python benchmarks/"))]


def in_small(words: list[str]) -> list[str]:
    """Returns a command with less work: fewer and smaller frames, two steps, one process, the compact network."""
    name = words[1].rpartition("/")[2]
    kept = list(words)
    for option in LARGE:
        while option in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
    if "--size" in kept and kept[kept.index("--size") + 1] == "stcn":
        kept[kept.index("--size") + 1] = "compact"
    while any("resnet50" in word for word in kept):
        place = next(number for number, word in enumerate(kept) if "resnet50" in word)
        del kept[place - 1 : place + 1]
    return [*kept, *SMALL.get(name, "").split()]


def draw(folder: Path) -> None:
    """Writes data and weights in the page's layout."""
    from drawn_benchmark import draw_davis, draw_video, draw_youtube_vos
    from drawn_data import draw_photographs
    from PIL import Image

    for year, root in ((2016, folder / "data/DAVIS/2016"), (2017, folder / "data/DAVIS/2017/trainval")):
        draw_davis(root, year=year, count=FRAMES)
        (root / f"ImageSets/{year}/train.txt").write_text("bear\ndog\n")
    for frames in (folder / "data/DAVIS/2017/trainval/JPEGImages/480p").iterdir():
        draw_video(frames, frames.parents[2] / "Annotations/480p" / frames.name, FRAMES, late=0)  # two objects
    draw_youtube_vos(folder / "data/YouTube-VOS", count=FRAMES)
    valid = folder / "data/YouTube-VOS/valid"
    shutil.copytree(valid / "JPEGImages", valid.with_name("valid_all_frames") / "JPEGImages")
    draw_photographs(folder / "drawn", names=("discs",))
    static = folder / "data/static"
    for name in ("DUTS-TR", "DUTS-TE", "ecssd", "HRSOD_small", "BIG_small", "fss/discs"):
        (static / name).mkdir(parents=True)
        for number, image in enumerate(sorted((folder / "drawn/static/discs/images").glob("*.jpg")), 1):
            Image.open(image).save(static / name / f"{number}.jpg")
            mask = np.asarray(Image.open(image.parents[1] / "masks" / f"{image.stem}.png"))
            Image.fromarray((255 * (mask > 0)).astype(np.uint8)).save(static / name / f"{number}.png")
    (folder / "weights").mkdir()
    draw_weights(folder / "weights")


def draw_weights(folder: Path) -> None:
    """Writes a random network under the names and shapes of STCN's checkpoints, and a random ResNet-18."""
    lines = (ROOT / "tests/model/stcn_state_dict.txt").read_text().splitlines()
    shapes = {name: tuple(map(int, re.findall(r"\d+", shape))) for name, _, shape in (s.partition(" ") for s in lines)}
    torch.manual_seed(0)
    state = {name: _random(name, shape) for name, shape in shapes.items()}
    torch.save(state, folder / "stcn.pth")
    # With torchvision's names, without the classifier.
    torch.save(STCN(SIZES["compact"]).key_encoder.state_dict(), folder / "resnet18.pth")


def _random(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if not shape:
        return torch.zeros((), dtype=torch.int64)
    if len(shape) > 1:
        return torch.randn(shape) * (0.5 / np.prod(shape[1:])) ** 0.5
    return torch.ones(shape) if name.endswith(("weight", "running_var")) else torch.zeros(shape)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", action="append", default=[], help="only commands that contain this word; repeatable")
    parser.add_argument("--list", action="store_true", help="print the small commands and exit")
    args = parser.parse_args()
    chosen = [words for words in commands() if not args.only or set(args.only) & set(words)]
    if args.list:
        print("\n".join(shlex.join(in_small(words)) for words in chosen))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "data").exists():
            folder.mkdir(parents=True, exist_ok=True)
            draw(folder)
        return 1 if sum(not succeeds(words, folder) for words in chosen) else 0


def succeeds(words: list[str], folder: Path) -> bool:
    """Runs a command of the page in small, prints the outcome, and returns whether it succeeded."""
    small = in_small(words)
    program = ["-m", "mnemask"] if small[0] == "mnemask" else [str(ROOT / small[1])]
    rest = small[1:] if small[0] == "mnemask" else small[2:]
    begin = time.monotonic()
    done = subprocess.run([sys.executable, *program, *rest], cwd=folder, capture_output=True, text=True, check=False)
    # A row for each object has one for the second object of the first sequence.
    fine = done.returncode == 0 and ("object" not in small or "bear_2" in done.stdout)
    print(f"{'ok' if fine else 'FAIL':4s} {time.monotonic() - begin:5.1f} s  {shlex.join(small)}", flush=True)
    if not fine:
        print((done.stdout + done.stderr)[-2000:], flush=True)
    return fine


if __name__ == "__main__":
    sys.exit(main())
