"""Checks every export of a finished batch with the other tool's own reader; prints Markdown.

    python benchmarks/batch_exports.py OUT [--to FORMAT]

OUT is a folder that `mnemask batch` wrote, with masks as PNG; `batch_scenario.py` makes one. The masks that a reader
finds are compared with those of the batch, pixel by pixel. Needs `mnemask[arrays,parquet,rle]` and
`pip install --group formats-check`.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

Key = tuple[str, str]
"""Name of the clip and of the frame."""
Found = Iterator[tuple[Key, int, np.ndarray]]
"""Frame, object and mask; the object is 0 if the format does not identify it."""


def truth(out: Path) -> dict[Key, np.ndarray]:
    """Returns the labels of each frame of the complete clips."""
    clips = [clip["name"] for clip in json.loads((out / "report.json").read_text())["clips"]]
    paths = [(clip, path) for clip in clips for path in sorted((out / clip / "masks").glob("*.png"))]
    return {(clip, path.stem): np.array(Image.open(path)) for clip, path in paths}


def key_of(name: str) -> Key:
    clip, _, frame = name.removesuffix(".jpg").rpartition("/")
    return clip, frame


def coco(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from pycocotools.coco import COCO

    data = COCO(folder / "annotations.json")
    for each in data.anns.values():
        yield key_of(data.imgs[each["image_id"]]["file_name"]), each["track_id"], data.annToMask(each) > 0


def cvat(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    import datumaro

    for item in datumaro.Dataset.import_from(str(folder), "cvat"):
        for each in item.annotations:
            yield key_of(item.id), int(each.attributes["track_id"]), np.asarray(each.image) > 0


def cvat_video(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    import datumaro
    from pycocotools import mask

    for clip in sorted({clip for clip, _ in known}):
        names = [name for of, name in known if of == clip]
        for item in datumaro.Dataset.import_from(str(folder / clip), "cvat"):
            key = clip, names[int(item.attributes["frame"])]
            for each in item.annotations:
                if not each.attributes.get("outside"):
                    runs = mask.frPyObjects([list(each.points)], *known[key].shape)
                    yield key, int(each.attributes["track_id"]), mask.decode(runs)[..., 0] > 0


def cvat_masks(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    import datumaro

    for item in datumaro.Dataset.import_from(str(folder), "voc_instance_segmentation"):
        for each in item.annotations:
            yield key_of(item.id), 0, np.asarray(each.image) > 0


def folders(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    listed = folder / "ImageSets/2017/val.txt"
    videos = listed.read_text().split() if listed.exists() else json.loads((folder / "meta.json").read_text())["videos"]
    root = folder / ("Annotations/480p" if listed.exists() else "Annotations")
    for clip in videos:
        for path in sorted((root / clip).glob("*.png")):
            with Image.open(path) as image:
                assert image.mode == "P", path
                labels = np.asarray(image)
            for number in np.unique(labels[labels > 0]):
                yield (clip, path.stem), int(number), labels == number


def label_studio(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "config.xml").read_text())
    for task in json.loads((folder / "tasks.json").read_text()):
        key = key_of(task["data"]["image"].partition("?d=images/")[2])
        for each in task["annotations"][0]["result"]:
            assert interface.validate_region(each), each["id"]
            number = int(each["meta"]["text"][0].split()[0].split("=")[1])
            yield key, number, decode_rle(each["value"]["rle"]).reshape(*known[key].shape, 4)[..., 3] > 0


def labelme(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from labelme._label_file import LabelFile

    for path in sorted(folder.rglob("*.json")):
        key = path.parent.name, path.stem
        for each in LabelFile(str(path)).shapes:
            labels = np.zeros(known[key].shape, bool)
            (left, top), (right, bottom) = np.asarray(each["points"]).astype(int)
            labels[top : bottom + 1, left : right + 1] = each["mask"]
            yield key, int(each["group_id"]), labels


def yolo(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from supervision import DetectionDataset

    images, labels, listing = (str(folder / name) for name in ("images", "labels", "data.yaml"))
    for path, _, found in DetectionDataset.from_yolo(images, labels, listing, force_masks=True):
        clip, _, name = Path(path).stem.rpartition("-")
        for mask in () if found.mask is None else found.mask:
            yield (clip, name), 0, mask


def mots(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from pycocotools import mask

    for path in sorted(folder.glob("*/gt/gt.txt")):
        clip = path.parents[1].name
        names = [name for of, name in known if of == clip]
        for frame, number, _, height, width, counts in map(str.split, path.read_text().splitlines()):
            runs = {"size": [int(height), int(width)], "counts": counts.encode()}
            yield (clip, names[int(frame) - 1]), int(number), mask.decode(runs) > 0


def mot(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    import datumaro

    for clip in sorted({clip for clip, _ in known}):
        names = [name for of, name in known if of == clip]
        for item in datumaro.Dataset.import_from(str(folder / clip), "mot_seq"):
            for each in item.annotations:
                key = clip, names[int(item.id) - 1]
                box = np.zeros(known[key].shape, bool)
                x, y, width, height = map(int, each.get_bbox())
                box[y : y + height, x : x + width] = True
                yield key, int(each.attributes["track_id"]), box


def arrays(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    for path in sorted(folder.glob("*/masks.*")):
        if path.suffix == ".npz":
            data = np.load(path)
            names, labels = data["names"].tolist(), data["labels"]
        else:
            import zarr

            group = zarr.open_group(str(path), mode="r")
            names, labels = group.attrs["names"], group["labels"][:]
        for name, each in zip(names, labels, strict=True):
            for number in np.unique(each[each > 0]):
                yield (path.parent.name, name), int(number), each == number


def table(folder: Path, known: dict[Key, np.ndarray]) -> Found:
    from pyarrow import parquet

    for path in sorted(folder.glob("*/table.parquet")):
        for row in parquet.read_table(path).to_pylist():
            if row["area"]:
                yield (path.parent.name, row["name"]), row["object"], np.ones(row["area"], bool)


READERS: dict[str, tuple[Callable[[Path, dict[Key, np.ndarray]], Found], str]] = {
    "coco": (coco, "pycocotools"),
    "coco-polygons": (coco, "pycocotools"),
    "cvat": (cvat, "datumaro"),
    "cvat-masks": (cvat_masks, "datumaro"),
    "cvat-video": (cvat_video, "datumaro"),
    "davis": (folders, "Pillow"),
    "label-studio": (label_studio, "label-studio-sdk"),
    "labelme": (labelme, "labelme"),
    "mot": (mot, "datumaro"),
    "mots": (mots, "pycocotools"),
    "npz": (arrays, "numpy"),
    "table": (table, "pyarrow"),
    "yolo": (yolo, "supervision"),
    "youtube-vos": (folders, "Pillow"),
    "zarr": (arrays, "zarr"),
}


def expected(to: str, mask: np.ndarray) -> np.ndarray:
    """Returns the part of a mask that a format keeps: all of it, its box, or its area."""
    if to == "table":
        return np.ones(mask.sum(), bool)
    if to != "mot":
        return mask
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def compare(to: str, folder: Path, known: dict[Key, np.ndarray]) -> str:
    """Returns a row of a table: how the masks that the reader found compare with those of the batch."""
    read, tool = READERS[to]
    found: dict[tuple[Key, int], np.ndarray] = {}
    for key, number, mask in read(folder, known):
        found[key, number] = mask | found.get((key, number), False)
    numbered = any(number for _, number in found)
    wanted = {}
    for key, labels in known.items():
        for number in np.unique(labels[labels > 0]) if numbered else [0] * bool(labels.any()):
            wanted[key, int(number)] = expected(to, labels == number if numbered else labels > 0)
    overlaps = [
        (mask & found[each]).sum() / (mask | found[each]).sum() if found[each].shape == mask.shape else 0.0
        for each, mask in wanted.items()
        if each in found
    ]
    equal = len(overlaps) == len(wanted) == len(found) and min(overlaps) == 1
    told = "yes" if equal else f"{sum(each == 1 for each in overlaps)} of {len(wanted)}, least IoU {min(overlaps):.3f}"
    clips = len({clip for (clip, _), _ in found})
    return f"| `{to}` | {tool} {version(tool)} | {clips} | {len(found)} of {len(wanted)} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=READERS, action="append")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    known = truth(args.out)
    print("| format | reader | clips | masks read | as the batch wrote them |\n|---|---|---|---|---|")
    for to in args.to or READERS:
        with TemporaryDirectory() as scratch:
            line = [sys.executable, "-m", "mnemask", "export", str(args.out), "--to", to, "-o", scratch, "--pictures"]
            subprocess.run([*line, "--quiet"], check=True)
            print(compare(to, Path(scratch), known), flush=True)


if __name__ == "__main__":
    main()
