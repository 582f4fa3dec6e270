"""Options that several commands share: the tracker's settings, the network, and reading and writing videos."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, get_args

import typer

import mnemask as mm
from mnemask import choices

if TYPE_CHECKING:
    from mnemask.prompts import PromptPlan

ModelOption = Annotated[str, typer.Option("--model", help="`compact`, or a checkpoint of mnemask or STCN.")]
POLICY_HELP = (
    f"What to keep in memory: {', '.join(choices.POLICY_NAMES)}; with arguments, as in `'lfu(write_every=3)'`; or your "
    "own: `file.py:Class`, `package.module:Class`, or the name under which an installed package registers it."
)
PolicyOption = Annotated[str, typer.Option("--policy", metavar="POLICY", help=POLICY_HELP)]
FramesOption = Annotated[
    float | None,
    typer.Option(
        "--frames",
        help="Memory budget: the number of tokens in this many frames, however long the video is. [default: the "
        "policy's, 2 for most]",
    ),
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="Memory budget in bytes, such as 64MiB, including buffers.")
]
WriteEveryOption = Annotated[
    int | None,
    typer.Option(
        "--write-every",
        min=1,
        help="Write every N-th frame to memory, and no others unless --write-on-growth is given. [default: the "
        "policy's, 5 for most]",
    ),
]
WriteOnGrowthOption = Annotated[
    float | None,
    typer.Option(
        "--write-on-growth",
        min=0,
        max=0.99,
        help="Write a frame early when an object is larger, by more than this fraction, than in any frame written so "
        "far, such as 0.25; 0 disables it. [default: the policy's, 0.25 for diverse]",
    ),
]
WriteAboveCertaintyOption = Annotated[
    float,
    typer.Option(
        "--write-above-certainty",
        min=0,
        max=0.99,
        help="Write a frame only if the mean probability of the pixels in its masks is at least this, such as 0.9; 0 "
        "disables it.",
    ),
]
TopKOption = Annotated[
    int,
    typer.Option(
        "--top-k",
        min=1,
        help="Number of tokens that each cell of 16×16 pixels reads: those of the highest affinity. With 10 or 50, J&F "
        "is within 0.2 points of that with 20.",
    ),
]
KmnSigmaOption = Annotated[
    float | None,
    typer.Option(
        "--kmn-sigma",
        min=0,
        help="σ of the KMN kernel as a fraction of the short side. Smaller values suppress distractors but lose "
        "erratic motion; 0 disables it, as in STCN. [default: the model's, 0.2 for compact]",
    ),
]
TtaOption = Annotated[
    str,
    typer.Option(
        "--tta",
        metavar="VIEWS",
        help="Average the results of several views of each frame: `flip`, `scales` (0.8 and 1.25), factors such as "
        "1.5, separated by commas. Each view has a memory with the whole budget: `flip` takes twice the memory and "
        "time, `flip,scales` 6 times the memory and about 6.4 times the time.",
    ),
]
SizeOption = Annotated[
    int, typer.Option("--size", min=32, help="Short side, in pixels, at which frames are processed.")
]
EngineName = Enum("EngineName", {name: name for name in choices.ENGINE_NAMES})  # type: ignore[misc]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="How the network is run: `eager` is plain PyTorch; `compile` compiles it once for each frame size; `int8` "
        "and `int8-all` compute in 8 bits on CPUs with VNNI (extra `openvino`), at 1.2 and 1.7 times the speed and "
        "with a mask IoU of 0.998 and 0.996 to `eager` (docs/speed.md).",
    ),
]
DEFAULT_ENGINE = EngineName["eager"]
Precision = Enum("Precision", {name: name for name in choices.PRECISION_NAMES})  # type: ignore[misc]
DatasetOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"The layout and the rules of the data set: {', '.join(choices.DATASETS)}; or your own: "
        "`file.py:function`, which opens the folder, or the name under which an installed package registers it.",
    ),
]
SubsetOption = Annotated[
    str | None, typer.Option(help="Subset, such as val (DAVIS) or train (YouTube-VOS). [default: val or valid]")
]
SequenceOption = Annotated[list[str] | None, typer.Option(help="Run only this sequence. Repeatable.")]
PingPongOption = Annotated[
    int | None, typer.Option(min=1, help="Play each video forwards and backwards N times.", metavar="N")
]
AllFramesOption = Annotated[
    bool, typer.Option("--all-frames", help="YouTube-VOS: track through SUBSET_all_frames, at 30 frames/s.")
]
SingleObjectOption = Annotated[
    bool, typer.Option("--single-object", help="With `--dataset folder`: everything in a mask is one object.")
]
ProcessesOption = Annotated[
    int, typer.Option(min=1, help="Number of processes; one uses all threads, several use one thread each.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or mps. [default: cuda if available, else cpu]")
]


def in_panel(annotation: Any, panel: str) -> Any:
    """Returns a copy of an option's annotation that is shown in this panel of the help."""
    kind, info = get_args(annotation)[:2]
    info = copy.copy(info)
    info.rich_help_panel = panel
    return Annotated[kind, info]


# The tracker's options by the name of the command's parameter; `tracker_config` turns them into a TrackerConfig.
TRACKER_OPTIONS: dict[str, tuple[Any, Any]] = {
    "policy": (in_panel(PolicyOption, "Memory"), choices.DEFAULT_POLICY),
    "frames": (FramesOption, None),
    "budget": (BudgetOption, None),
    "write_every": (WriteEveryOption, None),
    "write_on_growth": (WriteOnGrowthOption, None),
    "write_above_certainty": (WriteAboveCertaintyOption, 0.0),
    "top_k": (TopKOption, 20),
    "kmn_sigma": (KmnSigmaOption, None),
    "tta": (TtaOption, ""),
    "size": (SizeOption, 480),
}
CONFIG: Any = None  # a command's placeholder default; `configured` passes the value made from the options

P = ParamSpec("P")


def chosen_policy(text: str) -> str:
    """Returns the name of the policy that the user gave; imports the user's own code if the name refers to some."""
    from mnemask.memory.policies import choose_policy

    return choose_policy(text)


def chosen_dataset(name: str) -> str:
    """Returns the name of the data set that the user gave; imports the user's own code if the name refers to some."""
    from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS

    return CUSTOM_VIDEO_SETS.choose(name) if ":" in name else name


def tracker_config(options: dict[str, Any]) -> mm.TrackerConfig:
    """Returns the tracker's settings from these options; settings that have no option here keep their defaults."""
    values = dict(options)
    if "policy" in values:
        values["policy"] = chosen_policy(values["policy"])
    if "size" in values:
        values["short_side"] = values.pop("size")
    frames, num_bytes = values.pop("frames", None), values.pop("budget", None)
    budget = None if frames is None and num_bytes is None else mm.Budget(frames=frames, bytes=num_bytes)
    return mm.TrackerConfig(budget=budget, **values)


def configured(*left_out: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Replaces a command's parameter `config` by the tracker's options, from which its value is made.

    Args:
        *left_out: names of options that the command does not have.
    """
    options = {name: option for name, option in TRACKER_OPTIONS.items() if name not in left_out}
    return with_options("config", options, tracker_config)


VideoFormat = Enum("VideoFormat", {name: name for name in choices.VIDEO_FORMAT_NAMES})  # type: ignore[misc]
VIDEOS: Any = None  # as CONFIG
_PANEL = "Videos for editors"


def _video_option(kind: Any, *names: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, rich_help_panel=_PANEL, **more)]


def _frames_per_second(text: str) -> float:
    """Returns the rate that the user gave, as a number or a fraction; raises BadParameter for anything else."""
    above, slash, below = text.partition("/")
    try:
        rate = float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError):
        rate = math.nan
    if not 0.01 <= rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a rate from 0.01 to 1000, such as 25, 29.97 or 30000/1001.")
    return rate


# By the name of the command's parameter; `video_outputs` turns them into VideoOutputs. docs/editors.md describes them.
VIDEO_OPTIONS: dict[str, tuple[Any, Any]] = {
    "as_": (
        _video_option(
            list[VideoFormat] | None,
            "--as",
            help="Also write a video, with the sound of the source: `prores` or `webm` (cut-outs with alpha), `matte` "
            "(black and white), `green` (green screen) or `overlay`. Repeatable.",
        ),
        None,
    ),
    "only": (
        _video_option(
            list[int] | None, "--only", metavar="ID", help="Cut out only this object. Repeatable. [default: all]"
        ),
        None,
    ),
    "background": (
        _video_option(str, "--background", metavar="COLOUR", help="Colour of the green screen: a name, or #RRGGBB."),
        "#00ff00",
    ),
    "smooth": (_video_option(int, "--smooth", metavar="N", help="Median over N frames: 3, 5, 7 or 9."), 1),
    "largest": (_video_option(bool, "--largest", help="Keep only the largest part of each object."), False),
    "fill_holes": (
        _video_option(str, "--fill-holes", metavar="PX|all", help="Fill holes of up to this many pixels."),
        "0",
    ),
    "grow": (_video_option(int, "--grow", min=0, metavar="PX", help="Grow objects by this many pixels."), 0),
    "shrink": (_video_option(int, "--shrink", min=0, metavar="PX", help="Shrink objects by this many pixels."), 0),
    "feather": (
        _video_option(float, "--feather", min=0, metavar="PX", help="Soften edges over this many pixels."),
        0.0,
    ),
    "fps": (
        _video_option(
            float | None,
            "--fps",
            metavar="RATE",
            parser=_frames_per_second,
            help="Frames per second of a folder of images, such as 24, 23.976 or 24000/1001. "
            "[default: that of the run, or 25]",
        ),
        None,
    ),
}


def video_outputs(options: dict[str, Any]) -> Any:
    """Returns the VideoOutputs for these options; raises InputError for invalid values."""
    from PIL import ImageColor

    from mnemask.io.edges import ALL, Cutout, Edges
    from mnemask.pipeline import VideoOutputs

    try:
        background = ImageColor.getrgb(options["background"])[:3]
    except ValueError:
        raise mm.InputError(
            f"--background {options['background']!r} is not a colour", "expected a name, such as green, or #00ff00"
        ) from None
    holes = options["fill_holes"]
    if not (holes == "all" or holes.isdecimal()):
        raise mm.InputError(f"--fill-holes {holes!r} is not a size", "expected pixels, such as 200, or all")
    if options["grow"] and options["shrink"]:
        raise mm.InputError("--grow and --shrink are opposites", "give one of them")
    edges = Edges(
        options["smooth"],
        options["largest"],
        ALL if holes == "all" else int(holes),
        options["grow"] - options["shrink"],
        options["feather"],
    )
    kinds = tuple(dict.fromkeys(kind.value for kind in options["as_"] or ()))
    return VideoOutputs(kinds, Cutout(tuple(options["only"] or ()), background, edges), options["fps"])


def with_videos(function: Callable[P, None]) -> Callable[P, None]:
    """Replaces a command's parameter `videos` by the options of videos, from which its value is made."""
    return with_options("videos", VIDEO_OPTIONS, video_outputs)(function)


OnCorrupt = Enum("OnCorrupt", {"stop": "stop", "skip": "skip", "hold": "hold"})
# By the name of the command's parameter; `VideoReading` is made from them.
_READING_OPTIONS: dict[str, tuple[Any, Any]] = {
    "live": (Annotated[bool, typer.Option("--live", help="Drop frames to keep up with a camera.")], False),
    "follow": (Annotated[bool, typer.Option("--follow", help="The file or folder is still being written.")], False),
    "on_corrupt": (
        Annotated[OnCorrupt, typer.Option(help="At a damaged frame: stop, skip it, or hold the previous frame.")],
        OnCorrupt["stop"],
    ),
    "reconnect": (
        Annotated[
            float, typer.Option(min=0, help="Seconds to keep trying when the connection to a camera or address breaks.")
        ],
        0.0,
    ),
    "start": (
        Annotated[
            str,
            typer.Option(
                help="First frame to read, and the frame of the --mask image: a number from 0, or a time (12.5s, "
                "00:01:30)."
            ),
        ],
        "0",
    ),
    "stop": (
        Annotated[str | None, typer.Option(help="Frame or time to stop before. Frames keep their numbers.")],
        None,
    ),
}


@dataclass(frozen=True, slots=True)
class VideoReading:
    """How a video is read, as given by the user."""

    live: bool
    follow: bool
    on_corrupt: str
    reconnect: float
    start: str
    stop: str | None

    @property
    def begins_later(self) -> bool:
        """Whether reading begins after the first frame of the video."""
        return self.start != "0"

    def open(self, video: str, start: int | None, masks: Sequence[Path], originals: bool) -> mm.VideoReader:
        """Opens the video.

        Args:
            video: the video as given by the user.
            start: the first frame to read, overriding the user's; None keeps that one.
            masks: files and folders that hold masks, not frames.
            originals: whether frames are needed as they are stored.
        """
        return mm.VideoReader(
            video,
            start=self.start if start is None else start,
            stop=self.stop,
            live=self.live,
            follow=self.follow,
            on_corrupt=self.on_corrupt,
            reconnect=self.reconnect,
            masks=masks,
            originals=originals,
        )

    def check(self, plan: PromptPlan, video: str, masks: Sequence[Path]) -> None:
        """Raises InputError if masks or clicks do not fit the video; a fault of the video itself is left to the run."""
        from mnemask.errors import FrameError
        from mnemask.io.storage import is_address
        from mnemask.pipeline.places import Expected

        self.refuse_beyond(plan)
        if is_address(video):
            return
        try:
            with self.open(video, 0, masks, originals=False) as reader:
                expected, frame = Expected.of(reader), next(iter(reader), None)
        except FrameError:
            return
        expected.refuse_beyond(plan.to_come)
        if frame is not None:
            plan.check_sizes(frame)

    def refuse_beyond(self, plan: PromptPlan) -> None:
        """Raises InputError if masks are given for frames from --stop on; not checked if --stop is a time."""
        from mnemask.io.reader import Position

        end = None if self.stop is None else Position.of(self.stop).frame
        if end is not None and (beyond := [frame for frame in plan.to_come if frame >= end]):
            raise mm.InputError(
                f"masks are given for frame {min(beyond)}, but --stop {self.stop} ends before it", "correct one of them"
            )


def _reading(options: dict[str, Any]) -> VideoReading:
    return VideoReading(**{**options, "on_corrupt": options["on_corrupt"].value})


READING: Any = None  # as CONFIG


def with_reading(function: Callable[P, None]) -> Callable[P, None]:
    """Replaces a command's parameter `reading` by the options of reading, from which its value is made."""
    return with_options("reading", _READING_OPTIONS, _reading)(function)


# The help panels of commands with many options, by the name of the command's parameter.
PANELS = {
    "More prompts": ("box_format", "not_", "at", "remove", "object_", "void", "clean_masks"),
    "Memory": (
        *("frames", "budget", "write_every", "write_on_growth", "write_above_certainty", "top_k", "kmn_sigma"),
        *("bank", "trace"),
    ),
    "Network": ("model", "size", "tta", "device", "dtype", "engine"),
    "Reading the video": tuple(_READING_OPTIONS),
    "Limits": ("max_memory", "checkpoint_every"),
}


def in_panels(panels: Mapping[str, Sequence[str]] = PANELS) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Groups the options of a command in panels of its help; an option in none of them stays where it is."""
    panel_of = {name: panel for panel, names in panels.items() for name in names}

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        signature = inspect.signature(function, eval_str=True)
        parameters = [
            each.replace(annotation=in_panel(each.annotation, panel_of[each.name])) if each.name in panel_of else each
            for each in signature.parameters.values()
        ]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def with_given(function: Callable[P, None]) -> Callable[P, None]:
    """Passes a command, as its parameter `given`, the names of the parameters set on the command line."""
    own = inspect.signature(function, eval_str=True).parameters

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        context: Any = kwargs.pop("context")
        kwargs["given"] = {name for name in kwargs if context.get_parameter_source(name).name == "COMMANDLINE"}
        function(*args, **kwargs)

    injected = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    kept = [parameter for name, parameter in own.items() if name != "given"]
    run.__signature__ = inspect.Signature([injected, *kept])  # type: ignore[attr-defined]
    return run


def with_options(
    replaced: str, options: dict[str, tuple[Any, Any]], make: Callable[[dict[str, Any]], Any]
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Replaces a parameter of a command by options, from which `make` builds its value."""

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        function.__annotations__.pop(replaced, None)  # not evaluated, since that would import PyTorch
        signature = inspect.signature(function, eval_str=True)
        added = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            kwargs[replaced] = make({each.name: kwargs.pop(each.name) for each in added})
            function(*args, **kwargs)

        parameters = list(signature.parameters.values())
        place = list(signature.parameters).index(replaced)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*parameters[:place], *added, *parameters[place + 1 :]]
        )
        return run

    return decorate
