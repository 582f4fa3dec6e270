"""A fixture of runs small enough for a test."""

import pytest


@pytest.fixture
def narrow_encoders(monkeypatch):
    """Networks with encoders of an eighth of the usual width, of whose weights a checkpoint holds four copies."""
    from mnemask.model import resnet

    monkeypatch.setattr(resnet, "STAGE_CHANNELS", (8, 16, 32))
