"""A worker that computes nothing: it notes what it begins, and does what each clip says."""

import os
import time
from pathlib import Path

from mnemask.errors import FrameError
from mnemask.manifest.run import Advanced
from mnemask.manifest.schedule import Clip, Outcome


def clips_of(**what):
    """Clips by name; each does what its value says."""
    return [Clip(name, number, {"video": f"{name}.mp4", "do": do}) for number, (name, do) in enumerate(what.items(), 1)]


def begun(folder):
    """Names of the clips in the order in which workers began them."""
    return [line.split()[0] for line in (Path(folder) / "begun").read_text().splitlines()]


def states(outcomes):
    """How each clip ended, by name."""
    return {name: outcome.state for name, outcome in outcomes.items()}


def check_that_a_stop_saves_and_begins_nothing(batch, folder, **how):
    """Runs a clip that waits, and one behind it, in a backend of one worker, and asks for a stop in mid-clip.

    Args:
        batch: runs clips, as the tests of a backend do.
        folder: where workers note what they begin.
        **how: more for `batch`.
    """
    seen, ended = [], []
    outcomes = batch(
        folder,
        clips_of(a="wait", b="ok"),
        stop=lambda: "SIGINT" if any(isinstance(event, Advanced) for event in seen) else None,
        on_event=seen.append,
        on_end=lambda name, outcome: ended.append(name),
        **how,
    )
    assert states(outcomes) == {"a": "stopped", "b": "stopped"}
    assert outcomes["a"].problem == "saved"
    assert begun(folder) == ["a"]
    assert sorted(ended) == ["a", "b"]


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
