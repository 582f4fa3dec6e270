"""What there is to say of a folder of frames."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from mnemask.doctor.finding import GO_ON, Finding
from mnemask.doctor.video import diagnose_video
from mnemask.errors import FrameError
from mnemask.video.frame_files import find_frames
from mnemask.video.images import ImageSequence, number_gaps, read_image
from mnemask.video.stacks import page_count

SHOWN = 5


def diagnose_folder(path: Path) -> list[Finding]:
    """Returns whether the images in a folder make a video: readable, of one size, with none missing."""
    try:
        files = find_frames(path)
        if len(files.paths) == 1 and page_count(files.paths[0]) > 1:
            return diagnose_video(files.paths[0])
        facts = ImageSequence(files, path.name).facts
    except FrameError as error:
        return [Finding.of_error(error)]
    images = files.paths
    sizes: dict[Path, str] = {}
    broken: list[Finding] = []
    for image in images:
        try:
            height, width = read_image(image, facts.levels).shape[1:]
            sizes[image] = f"{width}x{height}"
        except FrameError as error:
            broken.append(Finding.of_error(error))
    found = [Finding("ok", f"{len(images)} images from {images[0].name} to {images[-1].name}")]
    if len(images) == 1:
        found.append(Finding("warning", "one image is a video of one frame", "give the folder of all frames"))
    if len(broken) > SHOWN:
        broken[SHOWN:] = [Finding("problem", f"{len(broken) - SHOWN} more images cannot be read")]
    if broken and sizes:
        found.append(Finding("ok", f"{len(sizes)} of them can be read", f"mend the others, or {GO_ON}"))
    return [*found, *broken, *_sizes(sizes), *Finding.of_facts(facts), *_gaps(images), *_kind(next(iter(sizes), None))]


def _sizes(sizes: dict[Path, str]) -> Iterator[Finding]:
    ranked = Counter(sizes.values()).most_common()
    if len(ranked) == 1:
        yield Finding("ok", f"all of {ranked[0][0]} pixels")
    elif ranked:
        odd = [f"{path.name} ({size})" for path, size in sizes.items() if size != ranked[0][0]]
        yield Finding(
            "problem",
            f"{ranked[0][1]} images are {ranked[0][0]}, but {_some(odd)} not",
            "scale all to one size, or put the parts into folders of their own",
        )


def _gaps(images: Sequence[Path]) -> Iterator[Finding]:
    gaps = number_gaps(images).values()
    if gaps:
        yield Finding(
            "warning",
            f"the numbers jump from {_some([f'{before} to {after}' for before, after in gaps])}: frames may be missing",
            "if they are, objects leap there; export the frames again",
        )


def _kind(image: Path | None) -> Iterator[Finding]:
    if image is None:
        return
    with Image.open(image) as opened:
        if opened.mode == "P":
            yield Finding(
                "warning", "the images are indexed, as masks are", "to look at a mask, give the doctor the file itself"
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
