"""A camera as an endless video."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from mnemask.errors import FrameError
from mnemask.video.events import EventLog
from mnemask.video.patience import Patience
from mnemask.video.picture import Picture, Pictures, SourceFacts

logger = logging.getLogger(__name__)


class Camera:
    """Pictures of the camera with this number, as fast as it gives them; ends when the reader stops.

    Args:
        number: counted from 0.
        patience: for how long to try again when it gives nothing; None for not at all.
        log: where reconnects are noted.
    """

    num_frames = None
    repeatable = False
    facts = SourceFacts()

    def __init__(self, number: int, *, patience: Patience | None = None, log: EventLog | None = None) -> None:
        self.name = f"camera{number}"
        self._number = number
        self._patience = patience
        self._log = log or EventLog()
        # Another thread may close the camera while one waits for a picture.
        self._lock = threading.Lock()
        # OpenCV takes a C int; a number that is none belongs to no camera.
        if abs(number) >= 2**31 or not (device := self._open()).isOpened():
            raise FrameError(
                f"camera {number} cannot be opened; expected the number of a connected camera that no other program "
                "uses, counted from 0"
            )
        self._device = device
        self.frames_per_second = self._device.get(cv2.CAP_PROP_FPS) or None

    def pictures(self, start: int) -> Pictures:
        """Yields what the camera sees, times counted from the first picture; the first `start` are thrown away."""
        began = None
        for index, picture in enumerate(self._arriving()):
            now = time.monotonic()
            began = now if began is None else began
            if index >= start:
                rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                yield Picture(torch.from_numpy(rgb).permute(2, 0, 1), index, seconds=now - began, name="")

    def close(self) -> None:
        """Switches the camera off."""
        with self._lock:
            self._device.release()

    def _open(self) -> cv2.VideoCapture:
        # OpenCV reports each of its ways to fail on stderr; one sentence says enough. 4 and 5 are silenced in their
        # own ways.
        set_level: Callable[[int], int] = (
            cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
        )
        level = set_level(0)
        device = cv2.VideoCapture(self._number)
        set_level(level)
        return device

    def _read(self) -> UInt8[np.ndarray, "H W 3"] | None:
        with self._lock:
            arrived, picture = self._device.read()
        return np.asarray(picture, np.uint8) if arrived else None

    def _arriving(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        lost = False
        for index in range(sys.maxsize):
            while (picture := self._read()) is None:
                if not lost:
                    logger.warning("%s gave no picture after %d frames", self.name, index)
                lost = True
                if self._patience is None or not self._patience.wait():
                    if self._patience is not None and self._patience.interrupted.is_set():
                        return
                    waited = f" within {self._patience.seconds:g} s" if self._patience is not None else ""
                    raise FrameError(
                        f"{self.name} gave no picture after {index} frames{waited}; check that it is still connected"
                    )
                self.close()
                self._device = self._open()
            if lost:
                self._log.note("reconnects", index)
                lost = False
            if self._patience is not None:
                self._patience.succeeded()
            yield picture
