"""Published photographs with the mask of one object: DUTS, ECSSD, HRSOD, BIG and FSS-1000.

Each set can be opened in the layout of its own archives and in the layout that the authors of STCN redistribute, one
folder with the PNG of each JPEG next to it. ::

    for image in IMAGE_SETS["DUTS-TR"].open("/data"):
        print(image.name, image.read_mask().mean())
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from mnemask.datasets.annotated import AnnotatedImage, incomplete, names_in
from mnemask.errors import InputError
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.name_order import natural_order

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """The location of a set's files.

    Attributes:
        images: folder of the images; ``*`` matches every folder at that level.
        masks: folder of the masks, relative to the folder of the images.
        image_endings: what follows the picture's name in the file name of its image, in lower case.
        mask_ending: what follows the picture's name in the file name of its mask.
    """

    images: str
    masks: str = "."
    image_endings: tuple[str, ...] = (".jpg",)
    mask_ending: str = ".png"

    def folders(self, root: Path) -> list[Path]:
        """Returns the folders of images under `root`, or under its parent if `root` is the set's own folder."""
        root = root.absolute()
        bases = (root, root.parent) if root.name == self.images.split("/")[0] else (root,)
        for base in bases:
            if found := natural_order(path for path in base.glob(self.images) if path.is_dir()):
                return found
        return []


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A published set of photographs.

    Attributes:
        name: name in the literature.
        published: address of the project that publishes the set.
        num_images: number of published images.
        expected: description of the files that `open` looks for.
        layouts: possible layouts; the first one that has images with masks is used.
    """

    name: str
    published: str
    num_images: int
    expected: str
    layouts: tuple[Layout, ...]

    def open(self, root: Path | str) -> list[AnnotatedImage]:
        """Returns the set's images in natural order; logs a warning if there are fewer than were published.

        Args:
            root: the folder that contains the set's own folder, or that folder itself.

        Raises:
            InputError: the set is not found, or one of its images or masks is missing.
        """
        found = [pairs for layout in self.layouts if (pairs := _ImagePairs.in_layout(layout, Path(root))).any]
        if not found:
            raise InputError(
                f"there is no {self.name} in {root}", f"expected {self.expected}, as published at {self.published}"
            )
        pairs = next((pairs for pairs in found if pairs.images), found[0])
        images = pairs.whole(self.name, self.published)
        if len(images) < self.num_images:
            log.warning("%s in %s has %d of the %d images published", self.name, root, len(images), self.num_images)
        return images


def open_image_folder(root: Path | str) -> list[AnnotatedImage]:
    """Returns the pictures in `root/images`, of any common format, with their masks in `root/masks`, in natural order.

    Masks are PNG files with the pictures' names, white where the object is.

    Raises:
        InputError: there are no files, an image or a mask is missing, or two images have the same name.
    """
    images, masks = Path(root) / "images", Path(root) / "masks"
    pairs = _ImagePairs()
    pairs.add(images, masks, IMAGE_SUFFIXES)
    if not pairs.any:
        raise InputError(f"there are no images in {images} and no masks in {masks}", "expected NAME.jpg and NAME.png")
    return pairs.whole(str(images))


@dataclass(frozen=True, slots=True)
class _ImagePairs:
    """Images that have a mask, and the missing files of the others."""

    images: list[AnnotatedImage] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)

    @classmethod
    def in_layout(cls, layout: Layout, root: Path) -> "_ImagePairs":
        pairs = cls()
        for folder in layout.folders(root):
            masks = Path(os.path.normpath(folder / layout.masks))
            prefix = f"{folder.name}/" if "*" in layout.images else ""
            pairs.add(folder, masks, layout.image_endings, layout.mask_ending, prefix)
        return pairs

    def add(
        self,
        folder: Path,
        mask_folder: Path,
        image_endings: tuple[str, ...],
        mask_ending: str = ".png",
        prefix: str = "",
    ) -> None:
        pictures, masks = _by_name(folder, image_endings), _by_name(mask_folder, (mask_ending,))
        for name, file in pictures.items():
            if name in masks:
                mask = mask_folder / masks[name]
                self.images.append(AnnotatedImage(prefix + name, folder / file, mask))
            else:
                self.missing.append(mask_folder / f"{name}{mask_ending}")
        self.missing.extend(folder / f"{name}{image_endings[0]}" for name in masks if name not in pictures)

    @property
    def any(self) -> bool:
        return bool(self.images or self.missing)

    def whole(self, what: str, published: str = "") -> list[AnnotatedImage]:
        """Returns the images; raises InputError if a file is missing."""
        if self.missing:
            raise incomplete(what, self.missing, 2 * (len(self.images) + len(self.missing)), published)
        return self.images


def _by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """Returns the files of a folder, in natural order, by their names without ending."""
    found: dict[str, str] = {}
    for file in map(str, natural_order(map(Path, names_in(folder, endings)))):
        name = file[: -len(next(ending for ending in endings if file.lower().endswith(ending)))]
        if name in found:
            raise InputError(f"{found[name]} and {file} in {folder} have the same name", "keep one of them")
        found[name] = file
    return found


_SETS = (
    ImageSet(
        "DUTS-TR",
        "http://saliencydetection.net/duts",
        10_553,
        "DUTS-TR/DUTS-TR-Image/*.jpg with DUTS-TR/DUTS-TR-Mask/*.png, or DUTS-TR/*.jpg with *.png next to them",
        (Layout("DUTS-TR/DUTS-TR-Image", "../DUTS-TR-Mask"), Layout("DUTS-TR")),
    ),
    ImageSet(
        "DUTS-TE",
        "http://saliencydetection.net/duts",
        5_019,
        "DUTS-TE/DUTS-TE-Image/*.jpg with DUTS-TE/DUTS-TE-Mask/*.png, or DUTS-TE/*.jpg with *.png next to them",
        (Layout("DUTS-TE/DUTS-TE-Image", "../DUTS-TE-Mask"), Layout("DUTS-TE")),
    ),
    ImageSet(
        "ECSSD",
        "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
        1_000,
        "ECSSD/images/*.jpg with ECSSD/ground_truth_mask/*.png, or ecssd/*.jpg with *.png next to them",
        (
            Layout("ECSSD/images", "../ground_truth_mask"),
            Layout("ECSSD/img", "../ground_truth_mask"),
            Layout("ecssd"),
            Layout("ECSSD"),
        ),
    ),
    ImageSet(
        "HRSOD",
        "https://github.com/yi94code/HRSOD",
        1_610,
        "HRSOD_train/*.jpg with HRSOD_train_mask/*.png, or HRSOD_small/*.jpg with *.png next to them",
        (
            Layout("HRSOD_train/HRSOD_train", "../../HRSOD_train_mask/HRSOD_train_mask"),
            Layout("HRSOD_train/HRSOD_train", "../HRSOD_train_mask"),
            Layout("HRSOD_train", "../HRSOD_train_mask"),
            Layout("HRSOD/HRSOD_train", "../HRSOD_train_mask"),
            Layout("HRSOD_release/HRSOD_train", "../HRSOD_train_mask"),
            Layout("HRSOD_small"),
        ),
    ),
    ImageSet(
        "BIG",
        "https://github.com/hkchengrex/CascadePSP",
        150,
        "BIG/val/NAME_im.jpg with NAME_gt.png (and BIG/test, BIG/train), or BIG_small/*.jpg with *.png next to them",
        (
            Layout("BIG/*", ".", ("_im.jpg",), "_gt.png"),
            Layout("BIG_small", ".", ("_im.jpg",), "_gt.png"),
            Layout("BIG_small"),
        ),
    ),
    ImageSet(
        "FSS-1000",
        "https://github.com/HKUSTCV/FSS-1000",
        10_000,
        "fewshot_data/CLASS/1.jpg with 1.png next to it, or the same in fss",
        (Layout("fewshot_data/*"), Layout("fewshot_data/fewshot_data/*"), Layout("fss/*")),
    ),
)

IMAGE_SETS = {image_set.name: image_set for image_set in _SETS}
"""The sets of the first training stage, by name."""
