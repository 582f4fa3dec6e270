"""`mnemask studio`: click, track, correct and export in a browser on the user's own machine."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, console, errors
from mnemask.cli.options import ModelOption, PolicyOption, SizeOption, chosen_policy
from mnemask.cli.output import emit, say


@command
def studio(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos to open, or folders to search for them. [default: this folder]")
    ] = None,
    project: Annotated[
        Path, typer.Option("-p", "--project", help="Folder for the projects, with a subfolder for each video.")
    ] = Path("mnemask-projects"),
    model: ModelOption = "compact",
    policy: PolicyOption = choices.DEFAULT_POLICY,
    frames: Annotated[float, typer.Option("--frames", min=1, help="Memory budget of new projects, in frames.")] = 2.0,
    size: SizeOption = 480,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on; any other than the loopback address admits "
            "everyone on the network who has the token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="Port; 0 for any free one. [default: 8765, or any if it is in use]"
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Cut objects out of a video in the browser: click, track, stop where it goes wrong, correct, continue, export.

    **Examples**

    `mnemask studio camel.mp4  # opens the video; run it again to continue where you left off, even after a crash`

    `mnemask studio ~/videos  # finds the videos in a folder`

    Nothing leaves this machine. Repeat a project without a window with `mnemask project FOLDER -o out`.
    """
    if find_spec("starlette") is None or find_spec("uvicorn") is None or find_spec("websockets") is None:
        from mnemask.errors import missing_extra

        raise missing_extra("the studio needs starlette, uvicorn and websockets", "studio")
    from mnemask.studio.server import serve
    from mnemask.studio.workspace import Workspace

    given = videos or [Path()]
    for path in given:
        if not path.exists():
            raise mm.InputError(f"there is no {str(path)!r}", "give a video or a folder")
    roots = [path if path.is_dir() else path.parent for path in given]
    network = mm.load_model(model)
    # A project may be opened from another folder.
    named = model if network.path is None else str(network.path.resolve())
    settings = {"model": named, "policy": chosen_policy(policy), "frames": frames, "size": size}
    workspace = Workspace(project, roots, network, settings)
    opened = [workspace.open_source(str(path)) for path in given if path.is_file() or _is_clip(path)]
    for name in opened:
        workspace.project(name)  # a project in use or damaged is refused here, before the browser opens
    if host not in choices.LOOPBACK:
        errors.print(
            f"[bold yellow]warning:[/] listening on {host}: anyone who has the address with its token can open the "
            "videos below the given folders; the connection is not encrypted"
        )

    def ready(address: str) -> None:
        start = f"{address}#{quote(opened[0])}" if opened else address
        emit("address", command="studio", url=start)
        say(f"studio at {start}")
        console.print("press Ctrl-C to end it; everything is saved as you go")
        if not no_browser:
            webbrowser.open(start)

    try:
        with suppress(KeyboardInterrupt):  # the normal way to end
            serve(workspace, host=host, port=port, ready=ready)
    except OSError as error:
        raise mm.InputError(
            f"cannot listen on {host}{'' if port is None else f':{port}'} ({error.strerror})",
            "give another --port or --host",
        ) from error


def _is_clip(folder: Path) -> bool:
    """Returns whether a folder holds the images of one video; images next to videos are masks."""
    from mnemask.io.images import IMAGE_SUFFIXES

    suffixes = [path.suffix.lower() for path in folder.iterdir()]
    return sum(each in IMAGE_SUFFIXES for each in suffixes) > 1 and not set(suffixes) & set(choices.VIDEO_SUFFIXES)
