import pytest
from drawn_clip import drawn_clip

from mnemask import Tracker


@pytest.fixture(scope="session")
def clip():
    """Twelve frames and the masks of three objects."""
    return drawn_clip(12, num_objects=3)


@pytest.fixture
def make(tiny_model):
    """Makes a tracker of the tiny network; frames are processed as they are."""
    return lambda policy="lfu", **settings: Tracker(tiny_model, policy=policy, **{"short_side": None, **settings})
