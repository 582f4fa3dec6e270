"""Masks packed as the servers that keep the true ones take them."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from mnemask.errors import InputError, OutputError
from mnemask.video.files import make_folder, temporary_file
from mnemask.video.written import Written


def write_submission(masks: Path, sequences: Iterable[str], target: Path, top: str = "Annotations") -> None:
    """Writes a zip of TOP/SEQUENCE/FRAME.png, whole or not at all.

    Args:
        masks: the folder that holds a folder of PNG masks for each sequence.
        sequences: their names.
        target: the zip file.
        top: the folder in the zip, "" for none; YouTube-VOS expects "Annotations", DAVIS none.

    Raises:
        InputError: a sequence has no masks there.
        OutputError: the zip cannot be written, or has the place of a file that is no earlier one.
    """
    make_folder(target.parent)
    partial = temporary_file(target)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
            for name in sequences:
                files = sorted((masks / name).glob("*.png"))
                if not files:
                    raise InputError(f"there are no masks in {masks / name}; evaluate this sequence first")
                for path in files:
                    archive.write(path, str(Path(top, name, path.name).as_posix()))
        Written(target.parent).publish(partial, target)
    except OSError as error:
        raise OutputError(f"cannot write {str(target)!r} ({error.strerror}); make room there") from error
    finally:
        partial.unlink(missing_ok=True)
