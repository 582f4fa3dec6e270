"""Whether a video ended or broke off: what its header promises against what came."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from mnemask.video.clock import LONG_GAP_SECONDS

if TYPE_CHECKING:
    AnyPacket = Packet[Any]  # generic for the type checker only
else:
    AnyPacket = Packet

# A step that is no longer than so many usual ones lacks no frame.
_EVEN = 1.5
# Headers round, and sound starts and ends up to two of its packets, 0.25 s at 8 kHz, away from what they say.
_SLACK_SECONDS, _SLACK_SECONDS_WITH_SOUND = 0.05, 0.25


def promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Returns how long the header says that the longest stream lasts; None for formats in which it is a guess."""
    if container.format.name == "avi":
        return float(stream.frames / stream.average_rate) if stream.average_rate else None
    if not container.duration:
        return None
    if "matroska" in container.format.name:
        # It counts from 0, whenever the first frame is shown.
        return (container.duration - (container.start_time or 0)) / av.time_base
    return container.duration / av.time_base if "mov" in container.format.name else None


class Progress:
    """How far a video has been read.

    Time is compared, not the number of frames: edit lists hide frames that the header counts, and a Matroska header
    counts none. Packets of every stream are seen, since the promised duration is that of the longest.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.num_frames = 0
        self.cut = False
        self._promised = promised_seconds(container, stream)
        self._num_promised = stream.frames or (self._promised and rate and round(self._promised * rate)) or None
        self._slack = _SLACK_SECONDS if len(container.streams) == 1 else _SLACK_SECONDS_WITH_SOUND
        # Matroska does not say how long the last frame is shown; in an uneven video that may be long.
        self._last_frame_unknown = "matroska" in container.format.name
        self._start = (container.start_time or 0) / av.time_base
        self._reached = self._start
        self._period = self._longest_gap = float(1 / rate) if rate else 0.0
        self._last_seconds: float | None = None
        self._num_since = self._num_too_many = 0

    def add_packet(self, packet: AnyPacket) -> None:
        """Notes that this much of the file came whole."""
        if packet.pts is not None:
            time_base = packet.time_base or Fraction(1)
            self._reached = max(self._reached, float((packet.pts + (packet.duration or 0)) * time_base))

    def add_frame(self, seconds: float | None) -> None:
        """Notes that one more frame came, or should have."""
        self.num_frames += 1
        self._num_since += 1
        if seconds is not None:
            if self._last_seconds is not None:
                self._longest_gap = max(self._longest_gap, seconds - self._last_seconds)
            self._last_seconds, self._num_since = seconds, 0

    def even_until_now(self) -> bool:
        """Returns whether all frames came at the same distance, so that a gap tells how many are missing in it."""
        return self._last_seconds is not None and 0 < self._longest_gap <= _EVEN * self._period

    def count_missing(self, seconds: float | None) -> int:
        """Returns how many frames are missing before the next one, of an even video, beyond those noted already.

        A decoder with threads may tell of a damage some frames too early; that is made up for later.
        """
        if seconds is None or self._last_seconds is None or seconds - self._last_seconds > LONG_GAP_SECONDS:
            return 0
        self._num_too_many += self._num_since + 1 - round((seconds - self._last_seconds) / self._period)
        missing = max(-self._num_too_many, 0)
        self._num_too_many += missing
        return missing

    def broke_off(self) -> bool:
        """Returns whether frames are missing at the end."""
        if self.cut or self._promised is None:
            return self.cut
        missing = self._promised - (self._reached - self._start)
        return missing > self._slack + (2 * self._longest_gap if self._last_frame_unknown else 0.0)

    def __str__(self) -> str:
        of = f" of {self._num_promised}" if self._num_promised else ""
        return f"{self.num_frames}{of} frames"
