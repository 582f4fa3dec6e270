"""A worker that computes nothing: it notes what it begins, and does what each clip says."""

import os
import time
from pathlib import Path

from mnemask.errors import FrameError
from mnemask.manifest.schedule import Clip, Outcome


def clips_of(**what):
    """Clips by name; each does what its value says."""
    return [Clip(name, number, {"video": f"{name}.mp4", "do": do}) for number, (name, do) in enumerate(what.items(), 1)]


def begun(folder):
    """Names of the clips in the order in which workers began them."""
    return [line.split()[0] for line in (Path(folder) / "begun").read_text().splitlines()]


def open_stub(options):
    folder = Path(options["folder"])

    def work(clip, control):
        do, first = clip.options["do"], not (folder / f"{clip.name}.seen").exists()
        with (folder / "begun").open("a") as file:
            file.write(f"{clip.name} {os.getpid()}\n")
        (folder / f"{clip.name}.seen").touch()
        if do == "die" or (do == "die once" and first):
            os.kill(os.getpid(), 9)
        if do == "fail":
            raise FrameError("the file is damaged", "get another one")
        if do == "fault":
            return 1 // 0
        if do == "busy once" and first:
            return Outcome("busy", "another one writes there", "wait")
        frames = 0
        while do == "wait" or (do == "wait once" and first) or (do == "until go" and not (folder / "go").exists()):
            frames += 1
            control.advance(frames, None)
            if control.stop():
                return Outcome("stopped", "saved")
            time.sleep(0.02)
        return Outcome("done", facts={"frames": 3, "where": os.getpid(), "threads": options["threads"]})

    return work
