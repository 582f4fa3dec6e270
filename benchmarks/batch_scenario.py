"""Runs forty clips, two of them broken, on two Ray nodes while a worker and the driver are killed; prints Markdown.

    python benchmarks/batch_scenario.py ../shared/data/davis2016-dev OUT [--clips 40] [--frames 8] [--size 128]

Cuts clips of `--frames` frames from DAVIS, starts a cluster of two nodes on this machine and starts the batch. Kills a
worker (-9), kills the driver (-9), and runs the same command again until it ends; then counts the clips that were
processed twice.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def cut(data: Path, folder: Path, clips: int, frames: int) -> Path:
    """Copies clips, breaks the last two, and returns a manifest of them."""
    folder.mkdir(parents=True)
    videos = sorted((data / "JPEGImages/480p").iterdir())
    lines = ["video,mask,name,object"]
    for number in range(clips):
        video, begin = videos[number % len(videos)], number // len(videos) * frames
        name = f"{number:02d}-{video.name}"
        images = sorted(video.glob("*.jpg"))[begin : begin + frames]
        (folder / name).mkdir()
        for image in images:
            with Image.open(image) as opened:
                opened.resize((214, 120)).save(folder / name / image.name)
        with Image.open(data / "Annotations/480p" / video.name / f"{images[0].stem}.png") as mask:
            mask.resize((214, 120), Image.Resampling.NEAREST).save(folder / f"{name}.png")
        lines.append(f"{name},{name}.png,{name},1={video.name}")
    damaged, missing = lines[-2].split(",")[0], lines[-1].split(",")[0]
    for image in (folder / damaged).iterdir():
        image.write_bytes(image.read_bytes()[:300])
    shutil.rmtree(folder / missing)
    (folder / f"{missing}.mp4").write_bytes(b"no video at all")
    lines[-1] = f"{missing}.mp4,{missing}.png,{missing},"
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


def until(true: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 300) -> bool:
    """Waits for a condition; returns whether it was met before the process ended or the time ran out."""
    end = time.monotonic() + seconds
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            return true()
        time.sleep(0.1)
    return True


def complete(out: Path) -> dict[str, float]:
    """Returns when each complete clip's report was written."""
    reports = [path for path in out.glob("*/report.json") if json.loads(path.read_text())["complete"]]
    return {path.parent.name: path.stat().st_mtime for path in reports}


def workers() -> list[int]:
    """Returns the process ids of Ray's actors that process clips."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::RayWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    for name, default in (("clips", 40), ("frames", 8), ("size", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    from ray.cluster_utils import Cluster

    manifest = cut(args.data, args.out / "clips", args.clips, args.frames)
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    out = (args.out / "out").resolve()
    line = [sys.executable, "-m", "mnemask", "batch", str(manifest), "-o", str(out), "--size", str(args.size)]
    line += ["--ray", cluster.address, "--json"]

    def start(number: int) -> subprocess.Popen[bytes]:
        with (args.out / f"said{number}.jsonl").open("wb") as said:
            return subprocess.Popen(line, stdout=said, stderr=subprocess.STDOUT)

    print("| seconds | what happened | clips complete |\n|---|---|---|", flush=True)
    begin = time.monotonic()

    def note(text: str) -> None:
        print(f"| {time.monotonic() - begin:.0f} | {text} | {len(complete(out))} |", flush=True)

    first = start(1)
    note("the batch is started on two nodes")
    until(lambda: len(complete(out)) >= args.clips // 8, first)
    victim = workers()[0]
    os.kill(victim, signal.SIGKILL)
    note(f"a worker (process {victim}) is killed with -9")
    until(lambda: len(complete(out)) >= args.clips // 2, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = complete(out)
    note("the driver is killed with -9")
    second = start(2)
    code = second.wait()
    note(f"the same command has ended with exit code {code}")
    after = complete(out)
    again = [name for name, when in before.items() if after[name] != when]
    report = json.loads((out / "report.json").read_text())
    print(f"\nCounts: {report['counts']}. Complete before the driver was killed and written again: {len(again)}.")
    for clip in report["clips"]:
        if clip["state"] == "failed":
            print(f"Failed: {clip['name']}: {clip['problem']}")
    print(f"Masks: {sum(1 for _ in out.glob('*/masks/*.png'))}, expected {(args.clips - 2) * args.frames}.")
    cluster.shutdown()


if __name__ == "__main__":
    main()
