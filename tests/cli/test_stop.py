"""Signals that come at a bad moment."""

import signal
import subprocess
import sys

import pytest

IN_A_DESTRUCTOR = """
import signal, sys, time
from mnemask.cli.app import INTERRUPTS

class Disposed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)

INTERRUPTS.leave_at_once()
INTERRUPTS.raise_once()
try:
    Disposed()
    print("ignored at first", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_a_ctrl_c_that_python_ignores_comes_again_and_ends_a_wait():
    done = subprocess.run([sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ignored at first\n", done.stderr
    assert (done.returncode, done.stderr) == (7, "")


def test_other_ignored_errors_are_still_shown():
    code = IN_A_DESTRUCTOR.replace("signal.raise_signal(signal.SIGINT)", "1 / 0").replace("time.sleep(600)", "pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr


WHERE = {
    "before torch is imported": "class Stop:\n    def find_spec(self, name, path=None, target=None):\n"
    "        if name == 'torch': signal.raise_signal(signal.SIGINT)\nsys.meta_path.insert(0, Stop())\n",
    "in the command": "import torch, mnemask.doctor\n"
    "mnemask.doctor.diagnose = lambda path: signal.raise_signal(signal.SIGINT)\n",
    "in a library that makes another error of it": "import torch, mnemask.doctor\ndef fail(path):\n    try:\n"
    "        signal.raise_signal(signal.SIGINT)\n    except KeyboardInterrupt:\n        raise ImportError('numpy')\n"
    "mnemask.doctor.diagnose = fail\n",
    "twice": "import torch, mnemask.doctor\ndef twice(path):\n    try:\n        signal.raise_signal(signal.SIGINT)\n"
    "    finally:\n        signal.raise_signal(signal.SIGINT)\nmnemask.doctor.diagnose = twice\n",
}


@pytest.mark.parametrize("where", WHERE)
def test_a_ctrl_c_ends_a_command_without_a_traceback(where):
    code = f"import signal, sys\nfrom mnemask.__main__ import main\n{WHERE[where]}main()\n"
    done = subprocess.run([sys.executable, "-c", code, "doctor", "x.mp4"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_was_started_to_ignore_ctrl_c_goes_on_doing_so():
    code = (
        "import signal, sys, mnemask.doctor\nfrom mnemask.__main__ import main\n"
        "mnemask.doctor.diagnose = lambda path: signal.raise_signal(signal.SIGINT) or []\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "x.mp4"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 0, done.stderr
