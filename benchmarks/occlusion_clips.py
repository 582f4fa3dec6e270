"""Writes clips with exact masks in which several objects hide each other, for `mnemask evaluate` and `experiment`.

    python benchmarks/occlusion_clips.py OUT [--davis DAVIS2016]
    mnemask experiment policies OUT/generated --dataset folder -o lab
    mnemask experiment policies OUT/pasted --dataset folder -o lab

OUT/generated: the eight generated clips of `clips.py`, which were never used for training.
OUT/pasted, if DAVIS 2016 val is given: pairs of its objects with crossing paths (`copy_paste.py`).
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from clips import HELD_OUT
from copy_paste import DAVIS_PAIRS, CopyPasteVideo
from PIL import Image

import mnemask as mm
from mnemask.datasets.published import DavisSequences
from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.io.visualize import davis_palette


def clips(davis: Path | None) -> Iterator[tuple[str, SyntheticVideo | CopyPasteVideo]]:
    for clip in HELD_OUT:
        yield f"generated/{clip.name}", clip.open()
    if davis is not None:
        sequences = DavisSequences(davis, 2016)
        for host, guest, seed in DAVIS_PAIRS:
            yield f"pasted/{host}+{guest}", CopyPasteVideo(sequences[host], sequences[guest], seed)


def write(folder: Path, video: Iterable[tuple[mm.Frame, object, object]]) -> None:
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    for frame, labels, _ in video:
        name = f"{frame.index:05d}.png"
        Image.fromarray(frame.image.permute(1, 2, 0).numpy()).save(folder / "frames" / name, compress_level=1)
        mask = Image.fromarray(labels.numpy().astype("uint8"), "P")
        mask.putpalette(davis_palette().tobytes())
        mask.save(folder / "masks" / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--davis", type=Path, help="root of DAVIS 2016")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists already; give a new folder")
    for name, video in clips(args.davis):
        write(args.out / name, video)
        print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
