"""What is known of the disk before the first frame."""

import os
from types import SimpleNamespace

import pytest
from refusals import refusal

from mnemask.errors import OutputError
from mnemask.pipeline.estimates import refuse_without_room


def disk(monkeypatch, block, free):
    state = SimpleNamespace(f_frsize=block, f_bavail=free // block, f_files=10**9, f_favail=10**9)
    monkeypatch.setattr(os, "statvfs", lambda place: state)


@pytest.mark.parametrize("block", [512, 4096, 2**20])
def test_a_file_of_a_network_disk_takes_no_unit_of_its_transfers(monkeypatch, tmp_path, block):
    disk(monkeypatch, block, 100 * 2**30)
    refuse_without_room(tmp_path, "png", (), (480, 854), 180_000, 1, 0)
    disk(monkeypatch, block, 100 * 2**20)
    with refusal(OutputError, "100 MiB free"):
        refuse_without_room(tmp_path, "png", (), (480, 854), 180_000, 1, 0)
