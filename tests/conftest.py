"""The option, marks and fixtures that all tests share."""

import signal
import sys
from pathlib import Path

import hypothesis
import pytest

# The same examples in each run, and no limit on the time of one: a busy machine is no failure.
hypothesis.settings.register_profile("mnemask", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("fast", deadline=None, derandomize=True, max_examples=10)
hypothesis.settings.load_profile("mnemask")

# Tests that run in the background of a shell would hand an ignored Ctrl-C on to the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# They hold no doctests, and as those they would be several modules of one name.
collect_ignore_glob = ["**/conftest.py"]

SHARED = Path(__file__).resolve().parents[1] / "../shared"


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the tests that take more than a minute")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--run-slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes more than a minute; run with --run-slow"))


@pytest.fixture(autouse=True)
def only_the_policies_of_the_package():
    """Forgets, after each test, the policies that its command line brought."""
    yield
    if policies := sys.modules.get("mnemask.memory.policies"):
        for name in set(policies.POLICIES) - set(policies.POLICY_NAMES):
            del policies.POLICIES[name]


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real images and videos, which lies beside the repository and not in it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data, and {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def tiny_model():
    """A network of few channels and random weights; its masks depend on what it remembers and move with the frames."""
    import torch

    from mnemask.model.stcn import STCN, STCNConfig

    config = STCNConfig(
        key_depth=18, key_channels=8, value_channels=32, compressed_channels=16, decoder_channels=(16, 16, 16)
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = STCN(config).requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter).mul_(0.5 if name.endswith("conv2.weight") else 1)
            elif parameter.ndim == 1:
                parameter.zero_()
    model.value_encoder.resnet.conv1.weight[:, 3:] *= 20  # what is remembered depends on the masks,
    model.decoder.up_16_8.skip_conv.weight.mul_(0.3)  # what is decoded on what is remembered,
    model.decoder.up_8_4.skip_conv.weight.mul_(0.3)
    model.key_projection.weight.mul_(0.3)  # and more than one memory is read
    weight = model.decoder.pred.weight
    weight.sub_(weight.mean()).mul_(0.8)
    return model.eval()


@pytest.fixture
def as_users_call_it():
    """Switches the shape checks of the tests off, so that bad input reaches the code as it does outside the tests."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
