"""Paths of files for libraries that take only UTF-8: OpenCV crashes on other names, and safetensors refuses them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def utf8_path(path: str | Path) -> Iterator[str]:
    """Yields a path in UTF-8 under which an existing file can be read in a `with` block: its own, if that is UTF-8.

    Otherwise, which Unix alone allows, the file is opened, and the path is that of its descriptor.

    Raises:
        OSError: the file cannot be opened.
    """
    if _is_utf8(str(path)):
        yield str(path)
        return
    with Path(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # of the surrogates that stand for bytes that are not UTF-8
        return False
    return True
