"""What is imported before a command begins: `--help` waits for nothing that computes."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "cv2", "av", "PIL", "jaxtyping", "safetensors"}
AFTERWARDS = (
    "import atexit, json, sys\n"
    "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
    "sys.argv = ['mnemask', *sys.argv[1:]]\n"
    "from mnemask.__main__ import main\n"
    "main()\n"
)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["segment", "--help"], ["train", "--help"]])
def test_help_and_version_import_no_more_than_the_command_line(arguments):
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(done.stderr))
    assert not loaded & HEAVY
    own = {name for name in loaded if name.split(".")[0] == "mnemask"}
    others = {name for name in own if not name.startswith("mnemask.cli")}
    assert others <= {"mnemask", "mnemask.__main__", "mnemask.choices", "mnemask.version"}
    assert len(own) < 30


def test_importing_the_package_imports_no_part_of_it():
    code = "import json, sys, mnemask; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("mnemask.")} == set()


def test_a_public_name_stays_a_function_when_the_subpackage_of_its_name_is_imported():
    code = "import mnemask as mm, mnemask.pipeline.run; assert callable(mm.segment); print(mm.segment)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("<function segment")
