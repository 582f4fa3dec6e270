"""The command line, called in this process or in one of its own."""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from typer.testing import CliRunner

from mnemask.cli import app

# Forks a process that has imported PyTorch already, which takes most of the time that a start takes.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mnemask.cli.studio", "mnemask.studio.server", "mnemask.studio.workspace"])


def mnemask(*arguments, columns=None):
    """Returns the exit code and the output with its line breaks taken out."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], env=columns and {"COLUMNS": str(columns)})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def mnemask_process(*arguments, cwd=None, encoding="utf-8", stdout=None):
    """Runs `mnemask` in a process of its own.

    Args:
        *arguments: of the command.
        cwd: its folder; by default that of the tests.
        encoding: of its output, which is returned as bytes.
        stdout: a file that it writes to instead.
    """
    with tempfile.TemporaryDirectory() as said:
        files = [Path(said, "stdout") if stdout is None else stdout, Path(said, "stderr")]
        process = start_mnemask(*arguments, stdout=files[0], stderr=files[1], cwd=cwd, encoding=encoding)
        process.join(300)
        process.kill()
        output = b"" if stdout is not None else files[0].read_bytes()
        return subprocess.CompletedProcess(arguments, process.exitcode, output, files[1].read_bytes())


def start_mnemask(*arguments, stdout=os.devnull, stderr=os.devnull, cwd=None, encoding="utf-8"):
    """Starts `mnemask` in a process of `PROCESSES`, whose output goes to these files."""
    process = PROCESSES.Process(target=_run, args=([*map(str, arguments)], str(stdout), str(stderr), cwd, encoding))
    process.start()
    return process


def _run(arguments, stdout, stderr, cwd, encoding):
    for number, path in enumerate((stdout, stderr), 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding=encoding, closefd=False)
    os.chdir(cwd or os.curdir)
    call_main(arguments)


def call_main(arguments):
    """Calls what `python -m mnemask` calls, in a process of `PROCESSES`."""
    torch.set_num_threads(1)
    sys.argv = ["mnemask", *arguments]
    from mnemask.__main__ import main

    main()
