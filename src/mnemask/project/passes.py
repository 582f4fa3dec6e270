"""The tracking passes of a project, one at a time; the journal records what each one wrote."""

import threading
from collections.abc import Callable, Sequence

from mnemask.errors import InputError
from mnemask.io.random_access import FrameAccess
from mnemask.memory.tokens import runs_of
from mnemask.model.stcn import STCN
from mnemask.project.about import check_frames
from mnemask.project.history import History
from mnemask.project.results import KeyMasks, Mask, Results
from mnemask.project.snapshots import Snapshots
from mnemask.project.tracking import Direction, Pass, PassReport, Until, plan_pass
from mnemask.tracker import Tracker
from mnemask.types import Frame


class Passes:
    """Runs the passes of a project.

    Args:
        frames: the frames of the video.
        network: returns the network.
        history: the actions.
        masks: the masks of keys.
        results: the tracked masks.
        snapshots: tracker states at earlier frames.
    """

    def __init__(
        self,
        frames: FrameAccess,
        network: Callable[[], STCN],
        history: History,
        masks: KeyMasks,
        results: Results,
        snapshots: Snapshots,
    ) -> None:
        self._frames, self._network, self._history = frames, network, history
        self._masks, self._results, self._snapshots = masks, results, snapshots
        self._running = threading.Lock()
        self._end_interrupted()

    def track(
        self,
        start: int,
        direction: Direction,
        to: Until,
        objects: Sequence[int] | None,
        may_change: Callable[[int], bool],
        stop: Callable[[], bool],
        on_frame: Callable[[PassReport, Frame], None],
    ) -> PassReport:
        """Tracks as `Project.track` does; `may_change` decides which frames are written."""
        if not self._running.acquire(blocking=False):
            raise InputError("a pass is already running", "wait for it, or stop it")
        try:
            self._end_interrupted()  # a full disk may have refused the line that ends it
            num_frames = self._frames.num_frames
            check_frames(start, start, num_frames)
            start = int(start)
            if to != "end" and to != "key":
                check_frames(to, to, num_frames)
                to = int(to)
            report = plan_pass(self._history.state, num_frames, self._next_number(), start, direction, to, objects)
            one = self._pass(report, objects)
            asked = {"start": start, "direction": direction, "to": to, "objects": objects and list(objects)}
            self._history.log({"do": "track", "pass": report.number, **asked})
            try:
                one.follow(may_change, stop, on_frame)
            finally:
                self._end(report.number, start, report.reached)
        finally:
            self._running.release()
        return report

    def tracker_before(self, frame: int, stop: Callable[[], bool]) -> Tracker:
        """Returns a tracker as `Project.tracker_before` does."""
        report = PassReport(0, max(0, frame - 1), frame, 1)
        tracker = self._pass(report, None).tracker_before(frame, stop)
        if tracker is None:
            raise InputError(f"tracking up to frame {frame} was stopped", "ask again, and do nothing else meanwhile")
        return tracker

    def _next_number(self) -> int:
        """Returns a number that no pass has used yet."""
        return 1 + max([self._results.last_pass(), *(int(line.get("pass", 0)) for line in self._history.actions)])

    def _pass(self, report: PassReport, objects: Sequence[int] | None) -> Pass:
        network = self._network()  # loading it may take seconds, in which the state may change
        state = self._history.state

        def mask_of(frame: int, object_id: int) -> Mask:
            return self._masks.read(state.keys[frame, object_id].mask)

        return Pass(self._frames, network, state, mask_of, self._results, self._snapshots, report, objects)

    def _end_interrupted(self) -> None:
        """Records how far an interrupted pass got."""
        passes = [line for line in self._history.actions if line["do"] in ("track", "tracked")]
        if passes and passes[-1]["do"] == "track":
            last = passes[-1]
            done = self._results.of_pass(last["pass"])
            reached = None if not done else max(done) if last["direction"] == "forward" else min(done)
            self._end(last["pass"], last["start"], reached)

    def _end(self, number: int, start: int, reached: int | None) -> None:
        """Records how far a pass got, and the frames up to there that it did not write.

        Frames may be accepted while a pass runs, before or after it reaches them, so that the order of the actions
        alone does not tell which ones it wrote.
        """
        line = {"do": "tracked", "pass": number, "reached": reached}
        if reached is not None:
            first, last = sorted((start, reached))
            unwritten = sorted(set(range(first, last + 1)).difference(self._results.of_pass(number)))
            line["kept"] = [[run.start, run.stop - 1] for run in runs_of(unwritten, self._frames.num_frames)]
        self._history.log(line)
