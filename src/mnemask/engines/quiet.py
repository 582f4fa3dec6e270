"""Silence while others compile: what they tell of their own inner workings, nobody here can mend."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("torch.onnx", "torch.export", "onnxscript")


@contextmanager
def quiet_compilers() -> Iterator[None]:
    """Within it, compilers and exporters give no warnings; their errors are raised as ever."""
    logs, root = [logging.getLogger(name) for name in TALKATIVE], logging.getLogger()
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    root.addFilter(_is_error)  # of what is said without a name, as OpenVINO does; others' loggers are not affected
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_is_error)
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
