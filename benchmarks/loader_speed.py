"""Measures the processor time of a clip on one thread, for each source, to compare with a training step.

    python benchmarks/loader_speed.py --stills FOLDER ... --videos FOLDER ... [--single-object]
        [--size 384] [--frames 3] [--clips 40]

A folder of stills holds images/ and masks/, one of videos frames/ and masks/, or subfolders of this kind. Medians in
milliseconds are printed, after a first round that fills the system's file cache; `decode` is the time of reading the
files alone. Time in which other programs use the processor does not count.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import cv2
import numpy as np

from mnemask.datasets.annotated import AnnotatedImage, AnnotatedVideo
from mnemask.datasets.clips import ClipShape, ClipSource
from mnemask.datasets.composite.photographs import pictures_in, read_rgb
from mnemask.datasets.stcn_augment import ImageClips
from mnemask.datasets.video_clips import VideoClips


def stills(folder: Path) -> list[AnnotatedImage]:
    pairs = [(image, folder / "masks" / f"{image.stem}.png") for image in pictures_in(folder / "images")]
    return [AnnotatedImage(image.stem, image, mask, object_above=0) for image, mask in pairs if mask.is_file()]


def video(folder: Path, single_object: bool) -> AnnotatedVideo:
    frames = tuple(pictures_in(folder / "frames"))
    masks = {index: folder / "masks" / f"{frame.stem}.png" for index, frame in enumerate(frames)}
    return AnnotatedVideo(folder.name, frames, {i: mask for i, mask in masks.items() if mask.is_file()}, single_object)


def holders(folder: Path, part: str) -> list[Path]:
    return [folder] if (folder / part).is_dir() else sorted(path.parent for path in folder.glob(f"*/{part}"))


def milliseconds(draw: Callable[[int], object], count: int) -> list[float]:
    times = []
    for index in range(count):
        begin = time.thread_time()
        draw(index)
        times.append(1000 * (time.thread_time() - begin))
    return times


def report(name: str, source: ClipSource, read: Callable[[np.random.Generator], object], shape: ClipShape, count: int):
    def draw(index: int) -> object:
        return source.draw(np.random.default_rng(index), shape)

    milliseconds(draw, count)
    times = milliseconds(draw, count)
    decode = median(milliseconds(lambda index: read(np.random.default_rng(index)), count))
    print(f"| {name} | {median(times):.1f} | {quantiles(times, n=10)[-1]:.1f} | {decode:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", type=Path, nargs="+", default=[])
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--single-object", action="store_true", help="masks of videos show one object, maybe as 255")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--clips", type=int, default=40)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    shape = ClipShape(args.size, args.frames)
    print("| source | ms a clip | 9 of 10 below | decode |\n|---|---|---|---|")
    for folder in (holder for given in args.stills for holder in holders(given, "images")):
        images = stills(folder)

        def read_still(rng: np.random.Generator, images: list[AnnotatedImage] = images) -> None:
            image = images[int(rng.integers(len(images)))]
            image.read_mask()
            read_rgb(image.image)

        report(f"stills, {folder.name}", ImageClips(images), read_still, shape, args.clips)
    for folder in args.videos:
        videos = [video(holder, args.single_object) for holder in holders(folder, "frames")]

        def read_video(rng: np.random.Generator, videos: list[AnnotatedVideo] = videos) -> None:
            chosen = videos[int(rng.integers(len(videos)))]
            for index in sorted(chosen.masks)[: shape.num_frames]:
                chosen.read_labels(index)
                read_rgb(chosen.frames[index])

        report(f"videos, {folder.name}", VideoClips(videos), read_video, shape, args.clips)


if __name__ == "__main__":
    main()
