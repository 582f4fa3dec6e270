"""The run that most tests of exports read."""

import pytest
from drawn_run import write_run, write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and that of its frames."""
    folder = tmp_path_factory.mktemp("export")
    write_run(folder / "camels")
    return folder / "camels", write_video(folder / "frames")
