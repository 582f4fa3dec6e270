"""The option, marks and fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1] / "../shared"


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the tests that take more than a minute")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--run-slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes more than a minute; run with --run-slow"))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real images and videos, which lies beside the repository and not in it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data, and {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def tiny_model():
    """A network of few channels whose random weights give masks that differ from frame to frame; for 64×96 frames."""
    import torch

    from mnemask.model.stcn import STCN, STCNConfig

    config = STCNConfig(
        key_depth=18, key_channels=8, value_channels=32, compressed_channels=16, decoder_channels=(16, 16, 16)
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = STCN(config)
        torch.nn.init.orthogonal_(model.key_projection.weight, gain=3)
        torch.nn.init.normal_(model.decoder.pred.weight, std=0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture
def as_users_call_it():
    """Switches the shape checks of the tests off, so that bad input reaches the code as it does outside the tests."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
