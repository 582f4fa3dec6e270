"""The command line, called in this process."""

import re

from typer.testing import CliRunner

from mnemask.cli import app


def mnemask(*arguments, columns=None):
    """Returns the exit code and the output with its line breaks taken out."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], env=columns and {"COLUMNS": str(columns)})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"\s+", " ", result.output)
