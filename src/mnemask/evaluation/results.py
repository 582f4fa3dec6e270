"""The result of one policy on one sequence, and the folder of results that lets a run resume.

::

    OUT/settings.json                          settings that must not change between runs
    OUT/masks/POLICY/SEQUENCE/FRAME.png        indexed PNG
    OUT/results/POLICY/SEQUENCE.json           scores, times, memory; written last
    OUT/tables/…, OUT/submission/POLICY.zip    made from these
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mnemask.errors import InputError, OutputError, printable
from mnemask.evaluation.benchmark import BenchmarkSequence
from mnemask.io.atomic import make_folder, remove_left_overs, safe_name
from mnemask.io.label_files import holds_labels
from mnemask.io.written import Written
from mnemask.metrics import VOID, ObjectScore, Report
from mnemask.types import is_number
from mnemask.version import __version__

_SAMPLE = 4096  # bytes that a digest reads at each of three places of a frame's file
# Files of these formats may be uncompressed: after a change between the samples they would look the same.
_READ_WHOLE = (".bmp", ".pgm", ".ppm", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one policy on one sequence.

    Attributes:
        policy: the policy's name.
        sequence: the sequence's name.
        report: J and F; None if the true masks are secret.
        frame_seconds: the time that the tracker took for each frame, without reading, writing and scoring; if the key
            features came from an earlier run (`FeatureCache`), including the time that they took then.
        frame_memory: tokens in memory after each frame, in frames' worth of tokens.
        most_tokens: the highest number of tokens in memory.
        most_bytes: the highest number of bytes in the bank.
        threads: the number of threads used.
        groups: "seen" or "unseen" in training, by object id.
        own_policy: class and parameters of a policy without a built-in name, such as lfu(write_every=2); for the user's
            own code also a digest of its source.
        made_of: digest of the video and its masks, see `digest_of`; empty in results of versions without one.
    """

    policy: str
    sequence: str
    report: Report | None
    frame_seconds: tuple[float, ...]
    frame_memory: tuple[float, ...]
    most_tokens: int
    most_bytes: int
    threads: int
    groups: Mapping[int, str] = field(default_factory=dict)
    own_policy: Mapping[str, Any] = field(default_factory=dict)
    made_of: str = ""

    @property
    def num_frames(self) -> int:
        """Number of frames that were tracked."""
        return len(self.frame_seconds)

    @property
    def seconds(self) -> float:
        """Total time of all frames."""
        return sum(self.frame_seconds)

    @property
    def frames_per_second(self) -> float:
        """Number of frames / total time."""
        return self.num_frames / self.seconds

    @property
    def frames_held(self) -> float:
        """Mean amount of memory used over the video, in frames' worth of tokens."""
        return fmean(self.frame_memory)

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as values that JSON can hold."""
        return {
            "mnemask": __version__,
            "policy": self.policy,
            "sequence": self.sequence,
            "frames": self.num_frames,
            "seconds": round(self.seconds, 4),
            "frames_per_second": round(self.frames_per_second, 4),
            "frames_held": round(self.frames_held, 4),
            "most_tokens": self.most_tokens,
            "most_bytes": self.most_bytes,
            "threads": self.threads,
            "groups": {str(object_id): group for object_id, group in self.groups.items()},
            **({"own_policy": dict(self.own_policy)} if self.own_policy else {}),
            "made_of": self.made_of,
            "scores": None if self.report is None else self.report.to_dict(frames=True),
            "frame_seconds": list(self.frame_seconds),
            "frame_memory": list(self.frame_memory),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Result":
        """Returns the result from the values that `to_dict` returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError or OverflowError: they are not such values.
        """
        scores, seconds = saved["scores"], _numbers(saved["frame_seconds"])
        if not seconds or not sum(seconds) > 0:
            raise ValueError(f"{len(seconds)} frames in {sum(seconds)} s")
        tokens, held, threads = _numbers([saved[name] for name in ("most_tokens", "most_bytes", "threads")])
        return cls(
            _text(saved["policy"]),
            _text(saved["sequence"]),
            None if scores is None else _report(scores),
            seconds,
            _numbers(saved["frame_memory"], len(seconds)),
            int(tokens),
            int(held),
            int(threads),
            {int(object_id): _text(group) for object_id, group in saved["groups"].items()},
            dict(saved.get("own_policy", {})),
            _text(saved.get("made_of", "")),
        )


def _report(scores: Mapping[str, Any]) -> Report:
    objects = tuple(
        ObjectScore.from_frames(
            _text(thing["sequence"]),
            int(thing["object"]),
            _numbers(thing["J"], most=1.0),
            _numbers(thing["F"], len(thing["J"]), most=1.0),
        )
        for thing in scores["objects"]
    )
    return Report(objects, _text(scores["protocol"]), tuple(_text(note) for note in scores["notes"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} instead of text"[:120])
    return value


def _numbers(values: object, count: int | None = None, most: float = 1e18) -> tuple[float, ...]:
    """Returns a list of numbers from 0 to `most` as floats; raises ValueError for anything else."""
    if not isinstance(values, list) or count not in (None, len(values)):
        raise ValueError(f"{values!r} instead of {'a list' if count is None else count} of numbers"[:120])
    for value in values:
        if not is_number(value) or not 0 <= value <= most:
            raise ValueError(f"{value!r} instead of a number from 0 to {most:g}"[:120])
    return tuple(float(value) for value in values)


def read_result(path: Path) -> Result:
    """Returns the result in a file; raises InputError if the file is not a result."""
    saved = _read_json(path)
    try:
        return Result.from_dict(saved)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(path, error) from error


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """A folder of results that were all made with the same settings.

    Anything under its final name is complete: masks are collected in a hidden folder, which is renamed when the last
    one is written, and the result is written after that.
    """

    out: Path

    @classmethod
    def open(cls, out: Path | str, settings: Mapping[str, Any]) -> "ResultFolder":
        """Returns the folder, which is created if missing.

        Raises:
            OutputError: the folder cannot be written to, or holds results made with other settings.
        """
        folder = cls(make_folder(Path(out)))
        for inside in (folder.out, folder.out / "tables", *folder.out.glob("results/*/")):
            remove_left_overs(inside, below=False)
        path, wanted = folder.out / "settings.json", json.loads(json.dumps(settings))
        if not path.exists():
            Written(folder.out).write(path, _as_json(wanted))
            return folder
        found = _read_json(path)
        for name in {**wanted, **found}:
            if found.get(name) != wanted.get(name):
                raise OutputError(
                    f"{str(out)!r} holds results with {name} = {found.get(name)!r}, and now it is {wanted.get(name)!r}",
                    "give another folder, or the same settings",
                )
        return folder

    def masks(self, policy: str, sequence: str) -> Path:
        """Returns the folder of a sequence's masks."""
        return self.out / "masks" / safe_name(policy) / sequence

    def load(self, policy: str, sequence: str) -> Result | None:
        """Returns a result, or None if there is none yet.

        Raises:
            InputError: its file is damaged.
        """
        path = self._result(policy, sequence)
        if not path.exists() or not self.masks(policy, sequence).is_dir():
            return None
        result = read_result(path)
        if (result.policy, result.sequence) != (policy, sequence):
            raise _damaged(path, ValueError(f"of {result.policy[:40]!r} on {result.sequence[:40]!r}"))
        return result

    def begin(self, policy: str, sequence: str) -> Path:
        """Returns an empty folder for the masks of a sequence; remains of an interrupted run are removed.

        Raises:
            OutputError: that is not possible, or there is a file that no run wrote.
        """
        finished = self.masks(policy, sequence)
        folder = finished.with_name(f".{sequence}.partial")
        written, result = Written(self.out), self._result(policy, sequence)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            written.refuse_foreign(result)
            written.remove_folder(finished)
            written.remove(result)
        except OSError as error:
            raise OutputError(f"{finished} cannot be removed ({error.strerror})", "delete it, and run again") from error
        return make_folder(folder)

    def keep(self, result: Result, masks: Path) -> None:
        """Saves a result, and moves the folder of its masks, from `begin`, to its final place."""
        path = self._result(result.policy, result.sequence)
        make_folder(path.parent)
        written = Written(self.out)
        written.adopt(masks, self.masks(result.policy, result.sequence))
        written.write(path, _as_json(result.to_dict()))

    def _result(self, policy: str, sequence: str) -> Path:
        return self.out / "results" / safe_name(policy) / f"{sequence}.json"


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict):
        raise _damaged(path, TypeError("no named values"))
    return values


def _damaged(path: Path, error: Exception) -> InputError:
    reason = printable(f"{type(error).__name__}: {error}", 200)
    return InputError(f"{path} cannot be used ({reason})", "delete it, and run again to recreate it")


def digest_of(sequence: BenchmarkSequence) -> str:
    """Returns a digest of a sequence: of its frames' names, sizes and samples, its masks' content, and its task.

    Frames that may be uncompressed are read whole, not in samples. With the digest, a result is not reused after the
    frames or masks have changed, or the choice of those that are given or required, which YouTube-VOS's meta.json
    defines.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    given, truth = sequence.given, sequence.truth
    void = "" if given.void == VOID else f", void {given.void}"
    lines = [f"{len(given.frames)} frames, one object {given.single_object}{void}"]
    lines += [f"given {sorted(given.masks)}", f"asked {sorted(sequence.asked)}"]
    for path in _files(given.frames):
        lines.append(f"{path.name} {_content(path) if path.suffix.lower() in _READ_WHOLE else _sampled(path)}")
    masks = given.masks if truth is None else {**given.masks, **truth.masks}
    lines += [f"{index} {path.name}" for index, path in sorted(masks.items())]
    lines += [f"{path.name} {_content(path)}" for path in _files(masks.values())]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _files(paths: Iterable[Path]) -> list[Path]:
    """Returns files and folders, each once; a label map inside a file is replaced by that file."""
    unique = dict.fromkeys(paths)
    return list(dict.fromkeys(path.parent if holds_labels(path) and not path.exists() else path for path in unique))


def _sampled(path: Path) -> str:
    """Returns a file's size and a digest of samples from its start, middle and end, as sizes may be equal."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for place in (0, size // 2, max(size - _SAMPLE, 0)):
                file.seek(place)
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "restore it") from error
    return f"{size} {digest.hexdigest()[:16]}"


def _content(path: Path) -> str:
    if path.is_dir():  # a folder with one file per frame, as of labelme or YOLO
        return " ".join(f"{each.name} {_content(each)}" for each in sorted(path.rglob("*")) if each.is_file())
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "restore it") from error
