"""Where an engine keeps what it has built, so that the next run need not build it again."""

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import mnemask.model
from mnemask.errors import OutputError
from mnemask.model.stcn import STCN

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns `$MNEMASK_CACHE`, or `mnemask` in the user's cache folder; it may be deleted at any time."""
    chosen = os.environ.get("MNEMASK_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnemask"


def digest(model: STCN, *compilers: str) -> str:
    """Returns a name for these weights, the code that runs them and what compiles it; others have other names."""
    found = hashlib.sha256(repr((asdict(model.config), str(model.dtype), torch.__version__, *compilers)).encode())
    for folder in (Path(mnemask.model.__path__[0]), Path(__file__).parent):
        for source in sorted(folder.glob("*.py")):
            found.update(source.read_bytes())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:24]


def kept(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns `target`, a folder that `build` has filled, now or in an earlier run; there whole or not at all.

    Where the cache cannot be written to, it is a folder for this process alone, and a warning says so.

    Raises:
        OutputError: if that cannot be written to either.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        return _for_this_process(target, build, error)
    try:
        build(partial)
        if not target.is_dir():
            partial.rename(target)
    except OSError as error:
        if not target.is_dir():  # else another process was quicker, and built the same
            return _for_this_process(target, build, error)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _for_this_process(target: Path, build: Callable[[Path], None], why: OSError) -> Path:
    """Returns a folder that `build` has filled and that goes when the process ends."""
    logger.warning(
        "the cache %s cannot be written to (%s), so what is built is built again the next time; name another folder in "
        "MNEMASK_CACHE",
        target.parent,
        why.strerror,
    )
    try:
        folder = Path(tempfile.mkdtemp(prefix="mnemask-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        build(folder)
    except OSError as error:
        raise OutputError(
            f"neither the cache {str(target.parent)!r} ({why.strerror}) nor a temporary folder ({error.strerror}) can "
            "be written to; name another folder in the environment variable MNEMASK_CACHE"
        ) from error
    return folder
