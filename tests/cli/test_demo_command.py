"""`mnemask demo` as it is used: pictures to look at, a score, and nothing of somebody else's replaced."""

import json
import subprocess
import sys

from PIL import Image


def demo(*arguments):
    command = [sys.executable, "-m", "mnemask", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_demo_leaves_a_clip_its_masks_and_a_score_and_may_be_repeated(tmp_path):
    out = tmp_path / "demo"
    done = demo("-o", out, "--frames", 12, "--objects", 1, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["type"], result["command"], result["frames"]) == ("result", "demo", 12)
    assert 0.8 < result["j_and_f"] <= 1
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        "clip.mp4",
        "contact-sheet.png",
        "first.png",
        "masks",
        "overlay.mp4",
        "report.json",
        "score.json",
        "table.csv",
    ]
    assert len(list((out / "masks").glob("*.png"))) == 12
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 1000

    (out / "score.json").write_text("mine")
    again = demo("-o", out, "--frames", 12, "--objects", 1)
    assert again.returncode == 2
    assert "score.json" in again.stderr
    assert (out / "score.json").read_text() == "mine"
