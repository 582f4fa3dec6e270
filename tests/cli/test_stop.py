"""Signals that come at a bad moment."""

import subprocess
import sys

IN_A_DESTRUCTOR = """
import signal, sys, time
from mnemask.cli.stop import repeat_ignored_interrupts

class Disposed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)

signal.signal(signal.SIGINT, signal.default_int_handler)
repeat_ignored_interrupts()
try:
    Disposed()
    print("ignored at first", flush=True)
    time.sleep(20)
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_a_ctrl_c_that_python_ignores_comes_again():
    done = subprocess.run([sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ignored at first\n", done.stderr
    assert (done.returncode, done.stderr) == (7, "")


def test_other_ignored_errors_are_still_shown():
    code = IN_A_DESTRUCTOR.replace("signal.raise_signal(signal.SIGINT)", "1 / 0").replace("time.sleep(20)", "pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
