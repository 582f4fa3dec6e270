"""A camera as an endless video."""

import sys
import time
from collections.abc import Generator

import cv2
import torch
from cv2.utils import logging

from mnemask.errors import FrameError
from mnemask.video.picture import Picture


class Camera:
    """Pictures of the camera with this number, as fast as it gives them; ends when the reader stops."""

    num_frames = None

    def __init__(self, number: int) -> None:
        self.name = f"camera{number}"
        # OpenCV reports each of its ways to fail on stderr; one sentence says enough.
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        self._device = cv2.VideoCapture(number)
        logging.setLogLevel(level)
        if not self._device.isOpened():
            raise FrameError(
                f"camera {number} cannot be opened; expected the number of a connected camera that no other program "
                "uses, counted from 0"
            )
        self.frames_per_second = self._device.get(cv2.CAP_PROP_FPS) or None

    def pictures(self, start: int) -> Generator[Picture, None, None]:
        """Yields what the camera sees, times counted from the first picture; the first `start` are thrown away."""
        began = None
        for index in range(sys.maxsize):
            arrived, picture = self._device.read()
            if not arrived:
                raise FrameError(f"{self.name} gave no picture after {index} frames; check that it is still connected")
            now = time.monotonic()
            began = now if began is None else began
            if index >= start:
                rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                yield Picture(torch.from_numpy(rgb).permute(2, 0, 1), seconds=now - began, name="")

    def close(self) -> None:
        """Switches the camera off."""
        self._device.release()
