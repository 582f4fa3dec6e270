import pytest
from typer.testing import CliRunner

from mnemask.cli import app


@pytest.mark.parametrize(
    ("size", "said"),
    [("480", "--size '480' is not a size"), ("480x99999", "frames of 99999×480 pixels cannot be exported")],
)
def test_a_size_that_is_none_is_said_before_anything_is_written(size, said, tmp_path):
    result = CliRunner().invoke(app, ["export", "--onnx", str(tmp_path / "network"), "--size", size])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "network").exists()


def test_masks_without_a_format_are_told_that_it_is_missing():
    result = CliRunner().invoke(app, ["export", "out"])
    assert result.exit_code == 2
    assert "--to is missing" in result.stderr
    assert "mnemask export out --to coco" in result.stderr
