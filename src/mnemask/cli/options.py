"""Options that several commands share: what to track, with which network, and how much to remember."""

from __future__ import annotations

import copy
import functools
import inspect
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
    "own: `file.py:Class`, `package.module:Class`, or the name that an installed package gives it."
)
PolicyOption = Annotated[str, typer.Option("--policy", metavar="POLICY", help=POLICY_HELP)]
FramesOption = Annotated[
    float | None,
    typer.Option(
        "--frames",
        help="Memory budget: as many tokens as so many frames have, however long the video is. [default: the policy's, "
        "2 for most]",
    ),
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="Memory budget in bytes, such as 64MiB, buffers included.")
]
WriteEveryOption = Annotated[
    int | None,
    typer.Option(
        "--write-every",
        min=1,
        help="Write every N-th frame to memory, no other unless --write-on-growth is given. [default: the policy's, 5]",
    ),
]
WriteOnGrowthOption = Annotated[
    float | None,
    typer.Option(
        "--write-on-growth",
        min=0,
        max=0.99,
        help="Write sooner, once an object is larger by more than this part than in any frame written, such as 0.25; "
        "0 never does. [default: the policy's own, 0.25 of diverse]",
    ),
]
WriteAboveCertaintyOption = Annotated[
    float,
    typer.Option(
        "--write-above-certainty",
        min=0,
        max=0.99,
        help="Write a frame only if the mean probability of the pixels in its masks is at least this, such as 0.9; 0 "
        "writes any.",
    ),
]
TopKOption = Annotated[
    int,
    typer.Option(
        "--top-k",
        min=1,
        help="Tokens that each cell of 16×16 pixels reads: those of the highest affinity. With 10 or 50 J&F is within "
        "0.2 points of that with 20.",
    ),
]
KmnSigmaOption = Annotated[
    float | None,
    typer.Option(
        "--kmn-sigma",
        min=0,
        help="σ of the KMN kernel as a fraction of the short side. Smaller values suppress distractors but lose "
        "erratic motion; 0 disables it, as in STCN. [default: the model's, 0.2 of compact]",
    ),
]
TtaOption = Annotated[
    str,
    typer.Option(
        "--tta",
        metavar="VIEWS",
        help="Average over views of each frame: `flip`, `scales` (0.8 and 1.25), factors such as 1.5; several after "
        "commas. Each has a memory of the whole budget: `flip` takes twice the memory and time, `flip,scales` 6 times "
        "the memory and about 6.4 times the time.",
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
        help="What runs the network: `eager` is plain PyTorch, `compile` is built once for each size of frames, `int8` "
        "and `int8-all` compute in 8 bits on CPUs with VNNI (extra `openvino`): 1.2 and 1.7 times the speed, mask IoU "
        "to `eager` 0.998 and 0.996 (docs/speed.md).",
    ),
]
DEFAULT_ENGINE = EngineName["eager"]
Precision = Enum("Precision", {name: name for name in choices.PRECISION_NAMES})  # type: ignore[misc]
DatasetOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Its layout and its rules: {', '.join(choices.DATASETS)}; or your own: `file.py:function`, which opens "
        "the folder, or the name that an installed package gives it.",
    ),
]
SubsetOption = Annotated[
    str | None, typer.Option(help="Subset, such as val (DAVIS) or train (YouTube-VOS). [default: val, valid]")
]
SequenceOption = Annotated[list[str] | None, typer.Option(help="Only this one. Repeatable.")]
PingPongOption = Annotated[
    int | None, typer.Option(min=1, help="Play each video forwards and backwards N times.", metavar="N")
]
AllFramesOption = Annotated[
    bool, typer.Option("--all-frames", help="YouTube-VOS: track through SUBSET_all_frames, 30 a second.")
]
SingleObjectOption = Annotated[
    bool, typer.Option("--single-object", help="For a folder: everything in a mask is one object.")
]
ProcessesOption = Annotated[int, typer.Option(min=1, help="Processes; 1 uses all threads, more use one thread each.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, mps. [default: cuda where there is one]")
]


def in_panel(annotation: Any, panel: str) -> Any:
    """Returns the annotation of an option that is shown in another panel."""
    kind, info = get_args(annotation)[:2]
    info = copy.copy(info)
    info.rich_help_panel = panel
    return Annotated[kind, info]


# The options of the tracker, by the name of the command's parameter; `tracker_config` makes a TrackerConfig of them.
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
CONFIG: Any = None  # what a command has for a default until the options are read

P = ParamSpec("P")


def chosen_policy(text: str) -> str:
    """Returns the name of the policy that the user wrote, whose own code may be imported for it."""
    from mnemask.memory.policies import choose_policy

    return choose_policy(text)


def chosen_dataset(name: str) -> str:
    """Returns the name of the data set that the user wrote, whose own code may be imported for it."""
    from mnemask.datasets.video_sets import CUSTOM_VIDEO_SETS

    return CUSTOM_VIDEO_SETS.choose(name) if ":" in name else name


def tracker_config(options: dict[str, Any]) -> mm.TrackerConfig:
    """Returns the settings of these options; the others keep their defaults."""
    values = dict(options)
    if "policy" in values:
        values["policy"] = chosen_policy(values["policy"])
    if "size" in values:
        values["short_side"] = values.pop("size")
    frames, num_bytes = values.pop("frames", None), values.pop("budget", None)
    budget = None if frames is None and num_bytes is None else mm.Budget(frames=frames, bytes=num_bytes)
    return mm.TrackerConfig(budget=budget, **values)


def configured(*left_out: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Gives a command the options of the tracker in place of its parameter `config`, and makes that of them.

    Args:
        *left_out: options that it does not have.
    """
    options = {name: option for name, option in TRACKER_OPTIONS.items() if name not in left_out}
    return with_options("config", options, tracker_config)


VideoFormat = Enum("VideoFormat", {name: name for name in choices.VIDEO_FORMAT_NAMES})  # type: ignore[misc]
VIDEOS: Any = None  # as CONFIG
_PANEL = "Videos for editors"


def _video_option(kind: Any, *names: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, rich_help_panel=_PANEL, **more)]


# By the name of the command's parameter; `video_outputs` makes VideoOutputs of them. They are said in docs/editors.md.
VIDEO_OPTIONS: dict[str, tuple[Any, Any]] = {
    "as_": (
        _video_option(
            list[VideoFormat] | None,
            "--as",
            help="Also write a video, with the sound of the source: `prores` or `webm` cut-outs with alpha, `matte` in "
            "black and white, `green` screen, `overlay`. Repeatable.",
        ),
        None,
    ),
    "only": (
        _video_option(
            list[int] | None, "--only", metavar="ID", help="Cut out this object alone. Repeatable. [default: all]"
        ),
        None,
    ),
    "background": (
        _video_option(str, "--background", metavar="COLOUR", help="Of the green screen: a name, or #RRGGBB."),
        "#00ff00",
    ),
    "smooth": (_video_option(int, "--smooth", metavar="N", help="Median of N frames: 3, 5, 7 or 9."), 1),
    "largest": (_video_option(bool, "--largest", help="Keep the largest part of each object."), False),
    "fill_holes": (
        _video_option(str, "--fill-holes", metavar="PX|all", help="Fill holes of up to so many pixels."),
        "0",
    ),
    "grow": (_video_option(int, "--grow", min=0, metavar="PX", help="Let objects grow."), 0),
    "shrink": (_video_option(int, "--shrink", min=0, metavar="PX", help="Let objects shrink."), 0),
    "feather": (
        _video_option(float, "--feather", min=0, metavar="PX", help="Let edges fade over so many pixels."),
        0.0,
    ),
    "fps": (
        _video_option(
            float | None, "--fps", min=0.01, max=1000, help="Frames per second of a folder of images. [default: 25]"
        ),
        None,
    ),
}


def video_outputs(options: dict[str, Any]) -> Any:
    """Returns the VideoOutputs that these options say; raises InputError for what cannot be."""
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
    """Gives a command the options of videos in place of its parameter `videos`, and makes that of them."""
    return with_options("videos", VIDEO_OPTIONS, video_outputs)(function)


OnCorrupt = Enum("OnCorrupt", {"stop": "stop", "skip": "skip", "hold": "hold"})
# By the name of the command's parameter; `VideoReading` is made of them.
_READING_OPTIONS: dict[str, tuple[Any, Any]] = {
    "live": (Annotated[bool, typer.Option("--live", help="Drop frames to keep up with a camera.")], False),
    "follow": (Annotated[bool, typer.Option("--follow", help="The file or folder is still being written.")], False),
    "on_corrupt": (
        Annotated[OnCorrupt, typer.Option(help="A damaged frame: stop, skip it, or hold the one before.")],
        OnCorrupt["stop"],
    ),
    "reconnect": (
        Annotated[
            float, typer.Option(min=0, help="Seconds to keep reconnecting when a camera or an address breaks off.")
        ],
        0.0,
    ),
    "start": (
        Annotated[
            str,
            typer.Option(
                help="First frame to read: a number from 0, or a time (12.5s, 00:01:30). An image of --mask is of it."
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
    """How a video is read, as the user gave it."""

    live: bool
    follow: bool
    on_corrupt: str
    reconnect: float
    start: str
    stop: str | None

    @property
    def begins_later(self) -> bool:
        """Whether reading begins at a frame that is not the first one of the video."""
        return self.start != "0"

    def open(self, video: str, start: int | None, masks: Sequence[Path], originals: bool) -> mm.VideoReader:
        """Opens the video.

        Args:
            video: as the user gave it.
            start: the first frame to read, in place of the user's.
            masks: files and folders that are no frames.
            originals: whether frames are wanted as they are stored.
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
        """Raises InputError if masks or clicks do not fit the video; what is wrong with it itself, a run says."""
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
        """Raises InputError if masks are given for frames that are not read; where --stop is a time, the end tells."""
        from mnemask.io.reader import Position

        end = None if self.stop is None else Position.of(self.stop).frame
        if end is not None and (beyond := [frame for frame in plan.to_come if frame >= end]):
            raise mm.InputError(
                f"masks are given for frame {min(beyond)}, and --stop {self.stop} is before it", "correct one"
            )


def _reading(options: dict[str, Any]) -> VideoReading:
    return VideoReading(**{**options, "on_corrupt": options["on_corrupt"].value})


READING: Any = None  # as CONFIG


def with_reading(function: Callable[P, None]) -> Callable[P, None]:
    """Gives a command the options of reading in place of its parameter `reading`, and makes that of them."""
    return with_options("reading", _READING_OPTIONS, _reading)(function)


# Where the options of commands with many of them are shown, by the name of the command's parameter.
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
    """Shows the options of a command in panels of its help; those that no panel names stay where they are."""
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
    """Tells a command in its parameter `given` which of its others were given to it, and are not defaults."""
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
    """Gives a command options in place of one of its parameters, and makes that of them."""

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        function.__annotations__.pop(replaced, None)  # which nobody need evaluate, and PyTorch with it
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
