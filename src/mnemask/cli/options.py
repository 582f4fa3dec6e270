"""Options that several commands share: the tracker's settings, the network and data sets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.parameters import P, in_panel, with_options
from mnemask.cli.reading import READING_OPTIONS

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
    int, typer.Option("--size", min=choices.SMALLEST_SIZE, help="Short side, in pixels, at which frames are processed.")
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


# The help panels of commands with many options, by the name of the command's parameter.
PANELS = {
    "More prompts": ("box_format", "not_", "at", "remove", "object_", "void", "clean_masks"),
    "Memory": (
        *("frames", "budget", "write_every", "write_on_growth", "write_above_certainty", "top_k", "kmn_sigma"),
        *("bank", "trace"),
    ),
    "Network": ("model", "size", "tta", "device", "dtype", "engine"),
    "Reading the video": tuple(READING_OPTIONS),
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
