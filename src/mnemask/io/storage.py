"""Files at addresses, through fsspec: s3://, gs://, memory:// and what else it knows, copied here to be read.

What `VideoReader` opens by itself (https:// and streams) is left to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, MissingExtraError, MnemaskError
from mnemask.io.atomic import make_folder

_READ_DIRECTLY = ("http", "https", "ftp", "rtsp", "rtmp", "rtp", "udp", "tcp", "srt")
"""Schemes that the reader of videos opens by itself."""


def is_address(text: str) -> bool:
    """Returns whether this is an address and no path."""
    return "://" in text


def is_fetched(text: str) -> bool:
    """Returns whether a file of this name has to be copied to the disk before it can be read."""
    return is_address(text) and text.partition("://")[0].lower() not in _READ_DIRECTLY


def open_storage(address: str) -> tuple[Any, str]:
    """Returns the file system of an address and the path there.

    Raises:
        InputError: there is no such file system, or it cannot be reached.
        MissingExtraError: the package for it is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        with reached(address, InputError, "opened", "give a folder or an address such as s3://…"):
            file_system, path = url_to_fs(address)
    except ImportError as error:
        scheme = address.partition("://")[0]
        raise MissingExtraError(
            f"{scheme}:// needs a package that is not installed ({error})",
            "pip install it where workers run: s3fs for s3://, gcsfs for gs://, adlfs for az://",
        ) from error
    return file_system, str(path)


@contextmanager
def reached(address: str, kind: type[MnemaskError], verb: str, remedy: str) -> Iterator[None]:
    """Within it, what goes wrong at an address is an error of this kind: it cannot be `verb`."""
    try:
        yield
    except (MnemaskError, ImportError):
        raise
    except Exception as error:  # each package has classes of its own for a refused key or a lost connection
        raise kind(f"{shown(address)} cannot be {verb} ({error})", remedy) from error


def fetched(address: str, folder: Path, *, only_file: bool = False) -> str:
    """Returns the path of a copy of a file or folder, made in a folder of this machine.

    Args:
        address: of the file or folder.
        folder: made if missing; nothing of the same name may be in it.
        only_file: whether a folder is refused.

    Raises:
        InputError: there is nothing to be had, or a folder where a file is expected.
    """
    file_system, path = open_storage(address)
    target = folder / Path(path).name
    make_folder(folder)
    with reached(address, InputError, "read", "look whether it is there and may be read"):
        is_folder = bool(file_system.isdir(path))
        if is_folder and only_file:
            raise InputError(f"{shown(address)} is a folder", "give a file; a manifest can name what is in a folder")
        file_system.get(path, str(target), recursive=is_folder)
    return str(target)


def without_password(address: str) -> str:
    """Returns an address, or a path, without what may be a password in it: before an @ of its host, or in a query."""
    scheme, found, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if found else address


def shown(address: str) -> str:
    """Returns an address, or a path, in quotes, without what may be a password in it."""
    return repr(without_password(address))
