"""How to install optional dependencies."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mnemask.errors import MissingExtraError


def missing_extra(need: str, extra: str) -> MissingExtraError:
    """Returns the error for an extra of mnemask that is not installed.

    Args:
        need: what needs which package, such as "figures need matplotlib".
        extra: what brings it, such as "figures".
    """
    return MissingExtraError(f"{need}", f"run: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Returns the command that installs an extra from where this installation came from, if that is still known.

    There is no index to install it from by its name alone.
    """
    source, editable = "PATH/TO/mnemask", False
    try:
        origin = json.loads(distribution("mnemask").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    folder = url2pathname(urlsplit(origin.get("url", "")).path)
    if "dir_info" in origin and Path(folder, "pyproject.toml").is_file():
        source, editable = folder, bool(origin["dir_info"].get("editable"))
    return f'pip install {"-e " if editable else ""}"{source}[{extra}]"'
