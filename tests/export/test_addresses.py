"""A batch and its export over the S3 protocol: s3fs, and a server of it on this machine."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture
def storage(monkeypatch):
    """Yields a file system of S3 with a bucket of two clips of the same name, and sets what commands need for it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}.items():
        monkeypatch.setenv(name, value)
    s3 = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    s3.mkdir("clips")
    yield s3
    s3.rm("clips", recursive=True)
    if s3.exists("results"):
        s3.rm("results", recursive=True)
    server.stop()


def put(s3, folder, tmp_path):
    """Puts three frames at clips/FOLDER/shot, and the mask of the first at clips/FOLDER/masks/shot."""
    rng = np.random.default_rng(len(folder))
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:45] = 1
    for index in range(3):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "frame.png")
        s3.put(str(tmp_path / "frame.png"), f"clips/{folder}/shot/{index}.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    s3.put(str(tmp_path / "mask.png"), f"clips/{folder}/masks/shot/0.png")


def mnemask(*arguments):
    command = [sys.executable, "-m", "mnemask", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_manifest_its_clips_and_their_results_are_at_addresses(storage, tmp_path):
    for folder in ("a", "b"):
        put(storage, folder, tmp_path)
    lines = [f"{each}/shot,{each}/masks/shot,{each}" for each in "ab"] + ["s3://clips/lost,a/masks/shot,lost"]
    storage.pipe("clips/list.csv", "\n".join(["video,mask,name", *lines]).encode())
    batch = ("batch", "s3://clips/list.csv", "-o", "s3://results/run", "--workers", 1, "--size", 48)

    first = mnemask(*batch)
    assert (first.returncode, first.stdout.splitlines()[0].partition(": ")[2]) == (1, "2 done, 1 failed"), first.stderr
    assert "'s3://clips/lost' cannot be read" in first.stderr
    written = storage.find("results/run", detail=True)
    assert {f"results/run/{each}/masks/{index}.png" for each in "ab" for index in range(3)} <= written.keys()

    second = mnemask(*batch)
    assert second.stdout.splitlines()[0].partition(": ")[2] == "2 complete, 1 failed", second.stderr
    again = storage.find("results/run", detail=True)
    masks = [name for name in written if "/masks/" in name]
    assert [again[name]["LastModified"] for name in masks] == [written[name]["LastModified"] for name in masks]

    done = mnemask("export", "s3://results/run", "--to", "coco", "--pictures", "-o", tmp_path / "coco")
    assert done.returncode == 0, done.stderr
    pictures = sorted(str(path.relative_to(tmp_path / "coco")) for path in (tmp_path / "coco").rglob("*.png"))
    assert pictures == [f"images/{each}/{index}.png" for each in "ab" for index in range(3)]
    with fsspec.open("s3://clips/b/shot/2.png") as file:
        assert (tmp_path / "coco/images/b/2.png").read_bytes() == file.read()


def test_a_storage_that_cannot_be_reached_is_one_sentence(storage, tmp_path, monkeypatch):
    put(storage, "a", tmp_path)
    (tmp_path / "list.csv").write_text("video,mask\ns3://clips/a/shot,s3://clips/a/masks/shot\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for arguments in (
        ("batch", tmp_path / "list.csv", "-o", "s3://results/run"),
        ("batch", "s3://clips/list.csv", "-o", tmp_path / "out"),
        ("export", "s3://results/run", "--to", "coco", "-o", tmp_path / "coco"),
    ):
        run = mnemask(*arguments)
        assert run.returncode == 2
        assert re.fullmatch(r"error: 's3://[^\n]*connect[^\n]*\n", run.stderr), run.stderr
    clip = mnemask("batch", tmp_path / "list.csv", "-o", tmp_path / "out", "--workers", 1)
    assert clip.returncode == 1
    assert "failed: shot: 's3://clips/a/shot' cannot be read" in clip.stderr
