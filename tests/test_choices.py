"""The names that the command line offers are those of the registries."""

from mnemask import choices
from mnemask.engines import ENGINES
from mnemask.export import EXPORT_FORMATS
from mnemask.io import MASK_FORMATS
from mnemask.memory.policies import POLICIES


def test_each_registry_has_the_names_that_the_command_line_offers():
    assert tuple(POLICIES) == choices.POLICY_NAMES
    assert tuple(ENGINES) == choices.ENGINE_NAMES
    assert tuple(MASK_FORMATS) == choices.MASK_FORMAT_NAMES + choices.VIDEO_FORMAT_NAMES + ("table",)
    assert tuple(EXPORT_FORMATS) == choices.EXPORT_FORMAT_NAMES
