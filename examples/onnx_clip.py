"""A clip segmented with NumPy and ONNX Runtime alone: no PyTorch, no mnemask.

    mnemask export --onnx network/ --size 480x854
    python examples/onnx_clip.py network/ frames/ first.png masks/

Frames are images of the size that was exported, in the order of their names; first.png says at each pixel the number of
its object, 1 to K, or 0 for the background, and so do the masks. Images are read with Pillow.

What is remembered is decided by the thesis's policy: to make room for a frame, the tokens go that were chosen least
often for their age (`mnemask segment --policy lfu`).
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime

WRITE_EVERY = 5  # frames


class Graph:
    """One of the exported graphs; called with arrays by name, it returns arrays by name."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(self.outputs, inputs), strict=True))


class Memory:
    """Room for so many tokens, and how often each was chosen since it was written."""

    def __init__(self, facts: dict) -> None:
        capacity, num_objects = facts["capacity"], facts["num_objects"]
        self.key = np.zeros((capacity, facts["key_channels"]), np.float32)
        self.value = np.zeros((num_objects, capacity, facts["value_channels"]), np.float32)
        self.topk_count = np.zeros(capacity, np.int64)
        self.written_at = np.zeros(capacity, np.int64)
        self.length = 0

    def count(self, index: np.ndarray) -> None:
        self.topk_count += np.bincount(index.ravel(), minlength=len(self.topk_count))

    def write(self, key: np.ndarray, value: np.ndarray, step: int) -> None:
        written, room = np.arange(self.length), len(self.key) - len(key)
        score = self.topk_count[written] / np.maximum(step - self.written_at[written], 1)
        excess = max(self.length - room, 0)
        kept = np.sort(np.argsort(score, kind="stable")[excess:])
        self.length = len(kept) + len(key)
        new = slice(len(kept), self.length)
        for tensor, added in ((self.key, key), (self.topk_count, 0), (self.written_at, step)):
            tensor[: len(kept)] = tensor[kept]
            tensor[new] = added
        self.value[:, : len(kept)] = self.value[:, kept]
        self.value[:, new] = value


def segment(folder: Path, frames: Iterable[np.ndarray], first: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the labels [H W] of each frame [H W 3], uint8 RGB; `first` are those of the first one."""
    facts = json.loads((folder / "network.json").read_text())
    look, read, decode, remember = (Graph(folder / f"{name}.onnx") for name in ("key", "read", "decode", "value"))
    if first.ndim != 2 or first.max() > facts["num_objects"]:
        raise SystemExit(
            f"the first mask has values up to {first.max()}: give a grey one of ids 1 to {facts['num_objects']}"
        )
    memory, last_write = Memory(facts), 0
    (height, width), pad = facts["size"], facts["padding"]
    inside = (slice(pad["top"], pad["top"] + height), slice(pad["left"], pad["left"] + width))
    for step, frame in enumerate(frames):
        if frame.shape[:2] != (height, width) or first.shape != (height, width):
            raise SystemExit(f"frames and mask must have the exported size, {width}x{height}")
        seen = look(frame=frame)
        if step == 0:
            labels = first
            given = (first == np.arange(facts["num_objects"] + 1)[:, None, None]).astype(np.float32)
            probs = np.pad(given, ((0, 0), (pad["top"], pad["bottom"]), (pad["left"], pad["right"])))
        else:
            found = read(
                query_key=seen["key"],
                memory_key=memory.key,
                memory_value=memory.value,
                length=np.array(memory.length),
            )
            memory.count(found["index"])
            features = {name: seen[name] for name in ("compressed", "stride8", "stride4")}
            probs = decode(readout=found["readout"], **features)["probs"]
            labels = probs[:, *inside].argmax(0)
        if step == 0 or step - last_write >= WRITE_EVERY:
            value = remember(frame=frame, stride16=seen["stride16"], probs=probs)["value"]
            memory.write(seen["key"], value, step)
            last_write = step
        yield labels.astype(np.uint8)


def main(network: str, frames: str, first: str, out: str) -> None:
    from PIL import Image

    paths = sorted(path for path in Path(frames).iterdir() if path.suffix.lower() in (".jpg", ".png"))
    pictures = (np.array(Image.open(path).convert("RGB")) for path in paths)
    Path(out).mkdir(parents=True, exist_ok=True)
    for path, labels in zip(paths, segment(Path(network), pictures, np.array(Image.open(first))), strict=True):
        Image.fromarray(labels).save(Path(out) / f"{path.stem}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
