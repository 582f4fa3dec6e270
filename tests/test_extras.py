"""What a message says of an optional package that is not there."""

import json
from importlib import metadata

import pytest

from mnemask.errors import install_command, missing_extra


class Installed:
    def __init__(self, origin):
        self.origin = origin

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.origin


@pytest.fixture
def installed_from(monkeypatch):
    return lambda origin: monkeypatch.setattr(metadata, "distribution", lambda name: Installed(origin))


def test_the_command_names_the_folder_that_it_was_installed_from(installed_from, tmp_path):
    (tmp_path / "pyproject.toml").touch()
    origin = {"url": tmp_path.as_uri(), "dir_info": {}}
    installed_from(json.dumps(origin))
    assert install_command("rle") == f'pip install "{tmp_path}[rle]"'
    installed_from(json.dumps(origin | {"dir_info": {"editable": True}}))
    assert install_command("rle") == f'pip install -e "{tmp_path}[rle]"'


@pytest.mark.parametrize("origin", [None, "", "{", '{"url": "file:///no/such/folder", "dir_info": {}}', '{"url": ""}'])
def test_where_the_folder_is_not_known_the_command_says_what_to_fill_in(installed_from, origin):
    installed_from(origin)
    assert install_command("rle") == 'pip install "PATH/TO/mnemask[rle]"'


def test_an_extra_that_is_missing_is_one_of_the_project():
    declared = metadata.metadata("mnemask").get_all("Provides-Extra")
    error = missing_extra("figures need matplotlib", "figures")
    assert "figures" in declared
    assert isinstance(error, ImportError)
    assert str(error).startswith("figures need matplotlib; run: pip install ")
