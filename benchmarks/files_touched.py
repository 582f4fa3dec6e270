"""Counts the files of the package that take part in one frame, one training clip and an import; prints Markdown.

    python benchmarks/files_touched.py [--files]

A file counts when one of its functions runs, on any thread (`sys.setprofile`). "The whole command" is
`mnemask segment` on sixteen frames, from the arguments to the last PNG; "a frame in the middle" leaves out code that
runs once. A training clip counts from sampling it to the optimizer's step. --files lists the files.
"""

import argparse
import inspect
import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import numpy as np
from lightning_fabric import Fabric
from PIL import Image

import mnemask as mm
from mnemask.cli import main as mnemask
from mnemask.pipeline import RunProgress
from mnemask.training.data import load, training_data
from mnemask.training.recipes import Phase, static
from mnemask.training.trainer import Training

PACKAGE = Path(mm.__file__).resolve().parent
ON_IMPORT = "import json, sys, mnemask as mm; mm.Tracker(mm.load_model()); print(json.dumps(sorted(sys.modules)))"


class CalledFiles:
    """The files of the package whose functions are called, in this thread and those that start after this was made."""

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self._seen: set[str] = set()
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        # Bodies of modules and classes run too, but are not optimized code.
        if self.on and event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            self._seen.add(frame.f_code.co_filename)

    def names(self) -> list[str]:
        """Stops recording and returns the files, relative to the package's folder."""
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # the documented way to end it
        paths = map(Path, self._seen)
        return sorted(path.relative_to(PACKAGE).as_posix() for path in paths if PACKAGE in path.parents)


def draw_clip(folder: Path, count: int = 16) -> None:
    """Writes a moving square as frames with masks, and the same as a training set of images."""
    for name in ("frames", "images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, mask = np.full((96, 128, 3), 60, np.uint8), np.zeros((96, 128), np.uint8)
        box = np.s_[16:48, 10 + 2 * index : 40 + 2 * index]
        image[box], mask[box] = (220, 90, 40), 255
        Image.fromarray(image).save(folder / "frames" / f"{index:05d}.png")
        Image.fromarray(image).save(folder / "images" / f"{index:05d}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{index:05d}.png")


def files_of_a_command(folder: Path) -> list[str]:
    """Returns the files that run in `mnemask segment`, from the command to the last PNG, after all imports."""
    for out in (folder / "warm", folder / "out"):
        arguments = ["segment", folder / "frames", "--mask", folder / "masks/00000.png", "-o", out]
        sys.argv = ["mnemask", *map(str, arguments), "--size", "64", "--quiet"]
        called = CalledFiles()
        with suppress(SystemExit):
            mnemask()
        assert (out / "masks/00015.png").is_file(), "the command failed"
    return called.names()


def files_of_a_frame(folder: Path) -> list[str]:
    """Returns the files that run from the third frame of a video to the fifth: reading, tracking and writing."""
    first = mm.read_mask(folder / "masks/00000.png")
    tracker = mm.Tracker(mm.load_model(), short_side=64)
    called = CalledFiles(on=False)

    def look(progress: RunProgress, masks: mm.Masks) -> None:
        called.on = 2 < progress.frames < 5

    with mm.VideoReader(folder / "frames") as video:
        mm.segment(video, tracker, folder / "frame", lambda f: None if f.index else first, on_frame=look)
    return called.names()


def files_of_a_clip(folder: Path, kind: str) -> list[str]:
    """Returns the files that run in the second training step, from sampling its clip to the optimizer's step."""
    recipe = replace(static(4), phases=(Phase(1.0, 64),), batch=1)
    source = training_data(recipe, [f"{kind}={folder}"])()
    fabric = Fabric(accelerator="cpu", devices=1)
    training = Training(fabric, recipe, source, mm.load_model(), folder / f"training-{kind}")
    batches = load(training.batches, 0, workers=0, pin=False)
    training.train_step(batches)
    called = CalledFiles()
    training.train_step(batches)
    return called.names()


def files_of_an_import() -> list[str]:
    """Returns the modules that are loaded once a tracker with its weights has been made."""
    done = subprocess.run([sys.executable, "-c", ON_IMPORT], capture_output=True, text=True, check=True)
    return [name for name in json.loads(done.stdout) if name.split(".")[0] == "mnemask"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="also list the files")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        draw_clip(folder)
        rows = [
            ("`mnemask segment`, the whole command", files_of_a_command(folder), 25, 47),
            ("a frame in the middle, read, tracked and written", files_of_a_frame(folder), 25, None),
            ("a training clip of a photograph, to the optimizer", files_of_a_clip(folder, "images"), 20, 38),
            ("a training clip of a video, to the optimizer", files_of_a_clip(folder, "frames"), 20, None),
            ("modules after `mm.Tracker(mm.load_model())`", files_of_an_import(), 80, 174),
        ]
    print("| what | files | goal | before the redesign |\n|---|---|---|---|")
    for what, files, goal, before in rows:
        print(f"| {what} | {len(files)} | {goal} | {before or '-'} |")
    for what, files, _, _ in rows if arguments.files else ():
        print(f"\n{what}: {', '.join(files)}")


if __name__ == "__main__":
    main()
