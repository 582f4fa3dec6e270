"""Uses a few minutes of a GPU: packs the data small, trains at full speed, writes the result in small files.

    python benchmarks/gpu_train.py pack DATA PACK.tar [--max-mib 58]
    python benchmarks/gpu_train.py train PACK.tar OUT --minutes 8 --workers 15 [--branch RUN/latest.safetensors]
    python benchmarks/gpu_train.py join OUT/home/trunk-*.safetensors RUN/latest.safetensors

`pack` writes the real video (without the sequences used for model selection) and as many photographs as fit, taking one
of each set in turn, as small WebP pictures and PNG masks. `train` runs the recipe `real-video` with larger batches for
the first part of the minutes, and a decay that branches off it for the rest. Then OUT/home holds files of at most
16 MiB: `candidate-*`, the weights to use, and `trunk-*`, the weights from before the decay with the optimizer's second
moments. `join` turns the latter into a run that `mnemask train real-video --branch RUN/latest.safetensors` continues,
and the former into weights.

Second moments are kept as square roots in 8 bits with a scale for each tensor. First moments, which recover within ten
steps, and the average, which restarts at the weights, are left out. PACK.tar may be split into PACK.tar.aa …
(`split -b 30M`).
"""

import argparse
import importlib.util
import io
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

if importlib.util.find_spec("av") is None:
    # The GPU machine may lack PyAV, which the package imports but training from pictures does not use.
    sys.modules["av"] = MagicMock()
    for name in ("buffer", "codec.context", "container", "error", "packet", "stream"):
        sys.modules[f"av.{name}"] = MagicMock()
    for name in ("codeccontext", "frame", "reformatter", "stream"):
        sys.modules[f"av.video.{name}"] = MagicMock()

from mnemask.datasets.composite.photographs import pictures_in, read_rgb
from mnemask.datasets.real_video import SELECTION, VIDEO_FOLDERS, open_real_video
from mnemask.datasets.shrunk_masks import SHRUNK, realign
from mnemask.io.label_files import read_labels
from mnemask.model.checkpoints import FORMAT as MODEL_FORMAT
from mnemask.model.checkpoints import save_model
from mnemask.training import recipes
from mnemask.training.checkpoint import FORMAT as RUN_FORMAT
from mnemask.training.init import init_from_weights
from mnemask.training.launch import Hardware, launch
from mnemask.training.trainer import RunOptions, StepReport, Training

MIB = 2**20
PART_MIB = 15.5  # without the file's header
BATCH, LEARNING_RATE = 32, 3e-4  # instead of the recipe's 4 and 1.5e-4
DECAY_SHARE = 0.25  # of the minutes
TINY = 2.0**-9  # the smallest positive number of float8_e4m3fn
MOST = 448.0  # and the largest


def pack(data: Path, target: Path, max_mib: float, short_side: int, quality: int) -> None:
    """Writes the pictures and masks as a tar file, the videos first."""
    room = max_mib * MIB
    with tarfile.open(target, "w") as tar:
        for number, files in enumerate(chain(videos(data), photographs(data))):
            image, mask = files
            side = short_side if "video_train" in image.parts else round(0.8 * short_side)
            parts = shrunk(image, mask, side, quality)
            # A member of a tar file takes whole blocks of 512 bytes, and one more for its header.
            needed = sum(512 + 512 * -(-len(part) // 512) for part in parts)
            if needed + 10240 > room:
                print(f"{number} pictures with masks; no room for more")
                break
            room -= needed
            names = (image.relative_to(data).with_suffix(".webp"), mask.relative_to(data).with_suffix(".png"))
            for name, part in zip(names, parts, strict=True):
                entry = tarfile.TarInfo(str(name))
                entry.size = len(part)
                tar.addfile(entry, io.BytesIO(part))
    print(f"{target}: {target.stat().st_size / MIB:.1f} MiB")


def videos(data: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the frames of the training videos that have masks, with their masks."""
    for folder in VIDEO_FOLDERS:
        for masks in sorted((data / "video_train" / folder.name).glob("*/masks")):
            if masks.parent.name in SELECTION:
                continue
            for frame in pictures_in(masks.parent / "frames"):
                if (mask := masks / f"{frame.stem}.png").exists():
                    yield frame, mask


def photographs(data: Path) -> Iterator[tuple[Path, Path]]:
    """Yields photographs with their masks, one of each set in turn."""
    sets = [pictures_in(folder) for folder in sorted((data / "static").glob("*/images"))]
    for turn in zip_longest(*sets):
        for image in filter(None, turn):
            yield image, image.parent.parent / "masks" / f"{image.stem}.png"


def shrunk(image: Path, mask: Path, short_side: int, quality: int) -> tuple[bytes, bytes]:
    """Returns a picture as WebP and its mask as PNG, reduced to the short side; smaller ones keep their size."""
    picture, shrunk_as = read_rgb(image), SHRUNK.get(mask.parts[-4])
    labels = realign(read_labels(mask), shrunk_as)
    height, width = labels.shape
    if shrunk_as is not None:  # of another height, so that its mask is not put back again as it is read
        short_side = min(short_side, shrunk_as[1] - 1)
    scale = min(1.0, short_side / min(height, width))
    size = (round(width * scale), round(height * scale))
    if scale < 1:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    done, encoded = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG", optimize=True)
    return encoded.tobytes(), buffer.getvalue()


def unpack(packed: Path, folder: Path) -> None:
    parts = [packed] if packed.exists() else sorted(packed.parent.glob(f"{packed.name}.*"))
    if not parts:
        raise SystemExit(f"there is no {packed}, nor {packed}.aa and so on; pack the data first")
    whole = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=whole) as tar:
        tar.extractall(folder, filter="data")


def train(args: argparse.Namespace) -> None:
    """Trains a trunk for a part of the minutes and a decay for the rest, and writes both to small files."""
    begin = time.monotonic()
    data: Path = args.out / "data"
    unpack(args.pack, data)
    recipe = recipes.real_video()
    assert recipe.mixture is not None
    mixture = replace(recipe.mixture, moving=0.0)  # the videos without ids are not packed
    recipe = replace(recipe, mixture=mixture, batch=args.batch, learning_rate=args.learning_rate, seed=args.seed)
    over = begin + 60 * args.minutes
    trunk = sitting_of(recipe, args, "trunk", (over - time.monotonic()) * (1 - DECAY_SHARE), args.branch)
    rate = trunk.step / trunk.seconds
    # A decay trains more often with a budget, which takes time; so does its start.
    steps = max(1, int(0.75 * rate * (over - time.monotonic())))
    candidate = sitting_of(
        recipes.decayed(recipe, steps), args, "candidate", over - time.monotonic(), trunk.out / "latest.safetensors"
    )
    home: Path = args.out / "home"
    home.mkdir(exist_ok=True)
    state = shrunk_state(load_file(trunk.out / "latest.safetensors"))
    save_parts(state, home, "trunk", {"format": RUN_FORMAT, "step": str(trunk.step)})
    model = candidate.averaged_model()
    weights = {name: value.half().cpu() for name, value in model.state_dict().items()}
    save_parts(weights, home, "candidate", {"format": MODEL_FORMAT})
    print(f"{trunk.step} + {candidate.step} steps of {args.batch} clips, {rate * args.batch:.1f} clips/s")


def sitting_of(
    recipe: recipes.Recipe, args: argparse.Namespace, name: str, seconds: float, branch: Path | None
) -> Training:
    def tell(report: StepReport) -> None:
        if report.step % 50 == 0 or report.step == 1:
            print(f"{name}: {report}", flush=True)

    return launch(
        recipe,
        lambda: open_real_video(args.out / "data", recipe.mixture),  # type: ignore[arg-type]
        lambda: init_from_weights(args.weights, "compact"),
        args.out / name,
        hardware=Hardware(),
        options=RunOptions(workers=args.workers, minutes=max(0.0, seconds) / 60),
        branch_from=branch,
        on_step=tell,
    )


def shrunk_state(run: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a run's weights in float16 and the square roots of its second moments in 8 bits."""
    small = {name: value.half() for name, value in run.items() if name.startswith("model/")}
    for name, value in run.items():
        if name.endswith("/exp_avg_sq"):
            root = value.sqrt()
            scale = (root.max() / MOST).clamp_min(1e-30)
            # No value may become 0: Adam divides by it.
            small[name] = (root / scale).clamp_min(TINY).to(torch.float8_e4m3fn)
            small[f"{name}/scale"] = scale[None]
        elif name.endswith("/step"):
            small[name] = value
    return small


def whole_state(small: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a run that can be continued: first moments are 0, and the average equals the weights."""
    run = {name: value.float() for name, value in small.items() if name.startswith("model/")}
    for name, value in small.items():
        if name.endswith("/exp_avg_sq"):
            run[name] = (value.float() * small[f"{name}/scale"]).square()
            run[name.removesuffix("_sq")] = torch.zeros_like(run[name])
            trained = name.removeprefix("optimizer/").removesuffix("/exp_avg_sq")
            run[f"average/{trained}"] = run[f"model/{trained}"].clone()
        elif name.endswith("/step"):
            run[name] = value
    return run


def save_parts(tensors: dict[str, Tensor], folder: Path, name: str, metadata: dict[str, str]) -> None:
    """Writes tensors as safetensors files of at most PART_MIB each, plus the header."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        if size + value.nbytes > PART_MIB * MIB:
            parts.append({})
            size = 0
        parts[-1][key] = value.contiguous()
        size += value.nbytes
    for number, part in enumerate(parts):
        save_file(part, folder / f"{name}-{number}.safetensors", metadata)


def join(parts: list[Path], target: Path) -> None:
    """Joins the parts into one file: a run to branch off, or weights."""
    tensors = {name: value for part in parts for name, value in load_file(part).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(name.startswith("optimizer/") for name in tensors):
        metadata = {"format": RUN_FORMAT, "step": "0", "seconds": "0.0", "settings": "{}", "precision": "{}"}
        save_file(whole_state(tensors), target, metadata)
    else:
        model = init_from_weights("compact")
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
        save_model(model, target, note="recipe real-video-decay on a GPU")
    print(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("pack")
    one.add_argument("data", type=Path)
    one.add_argument("target", type=Path)
    one.add_argument("--max-mib", type=float, default=58)
    one.add_argument("--short-side", type=int, default=336, help="short side of frames; photographs get 0.8 of it")
    one.add_argument("--quality", type=int, default=60)
    two = actions.add_parser("train")
    two.add_argument("pack", type=Path)
    two.add_argument("out", type=Path)
    two.add_argument("--minutes", type=float, default=8, help="total, including unpacking and start-up")
    two.add_argument("--workers", type=int, default=15)
    two.add_argument("--batch", type=int, default=BATCH)
    two.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    two.add_argument("--weights", default="compact", help="to start from without --branch")
    two.add_argument("--branch", type=Path)
    two.add_argument("--seed", type=int, default=1000, help="use another for each run, or it sees the same clips")
    three = actions.add_parser("join")
    three.add_argument("parts", type=Path, nargs="+")
    three.add_argument("target", type=Path)
    args = parser.parse_args()
    if args.action == "pack":
        pack(args.data, args.target, args.max_mib, args.short_side, args.quality)
    elif args.action == "train":
        train(args)
    else:
        join(args.parts, args.target)


if __name__ == "__main__":
    main()
