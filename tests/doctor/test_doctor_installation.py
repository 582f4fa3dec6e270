"""The doctor's look at the installation itself."""

from typer.testing import CliRunner

import mnemask as mm
from mnemask.cli import app
from mnemask.doctor import diagnose_installation, installation


def test_a_sound_installation_decodes_and_segments_the_video_that_the_package_carries():
    found = diagnose_installation()
    assert {finding.severity for finding in found} == {"ok"}
    said = " ".join(finding.what for finding in found)
    for part in ("torch", "av", f"mnemask {mm.__version__}", "decoded", "tracked 2 objects"):
        assert part in said


def test_whatever_a_broken_library_raises_is_a_problem_and_exits_with_1(monkeypatch):
    def no_such_option(*args, **options):
        raise TypeError("open() got an unexpected keyword argument")

    monkeypatch.setattr(installation, "VideoReader", no_such_option)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "decoding: TypeError" in result.output


def test_masks_that_are_wrong_are_a_problem(monkeypatch):
    monkeypatch.setattr(installation, "LEAST_OVERLAP", 1.01)
    assert [finding.severity for finding in diagnose_installation()].count("problem") == 1
