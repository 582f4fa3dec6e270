"""Files at addresses, through fsspec: s3://, gs://, memory:// and others, copied to this machine for reading.

Addresses that `VideoReader` opens by itself (https:// and streams) are left to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, MissingExtraError, MnemaskError
from mnemask.io.atomic import make_folder

_READ_DIRECTLY = ("http", "https", "ftp", "rtsp", "rtmp", "rtp", "udp", "tcp", "srt")
"""Schemes that `VideoReader` opens by itself."""


def is_address(text: str) -> bool:
    """Returns whether a text is an address rather than a path."""
    return "://" in text


def is_fetched(text: str) -> bool:
    """Returns whether a file must be copied to the disk before it can be read."""
    return is_address(text) and text.partition("://")[0].lower() not in _READ_DIRECTLY


def open_storage(address: str) -> tuple[Any, str]:
    """Returns the file system of an address and the path in it.

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
    """Context manager that turns any failure at an address into an error of this kind: it cannot be `verb`."""
    try:
        yield
    except (MnemaskError, ImportError):
        raise
    except Exception as error:  # each package has its own classes for a refused key or a lost connection
        raise kind(f"{shown(address)} cannot be {verb} ({error})", remedy) from error


def fetched(address: str, folder: Path, *, only_file: bool = False) -> str:
    """Copies a file or folder into a folder of this machine and returns the path of the copy.

    Args:
        address: address of the file or folder.
        folder: target folder, created if missing; it must not hold anything of the same name.
        only_file: whether a folder is refused.

    Raises:
        InputError: nothing can be read there, or it is a folder and a file is expected.
    """
    file_system, path = open_storage(address)
    target = folder / Path(path).name
    make_folder(folder)
    with reached(address, InputError, "read", "check that it exists and that you may read it"):
        is_folder = bool(file_system.isdir(path))
        if is_folder and only_file:
            raise InputError(f"{shown(address)} is a folder", "give a file; a manifest can list the files in a folder")
        file_system.get(path, str(target), recursive=is_folder)
    return str(target)


def without_password(address: str) -> str:
    """Returns an address or a path without what may hold a password: text before an @ in its host, and the query."""
    scheme, found, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if found else address


def shown(address: str) -> str:
    """Returns an address or a path in quotes, without what may hold a password."""
    return repr(without_password(address))
