"""The tests of the package: `pytest` in its folder."""

import torch
from newest_first import Newest, Tempered, focal, open_side_by_side
from PIL import Image

import mnemask as mm
from mnemask.testing import check_loss, check_policy, check_regularizer


def test_the_policy_keeps_the_contract():
    check_policy(Newest())
    check_policy(Newest(second_chance=0, write_every=2))


def test_the_policy_tracks():
    video = mm.DrawnVideo(6, size=(96, 128), num_objects=1, seed=1)
    tracker = mm.Tracker(mm.load_model("compact"), policy=Newest(write_every=1), short_side=None)
    for frame, truth in video:
        tracker.step(frame, {1: truth == 1} if frame.index == 0 else None)
    assert tracker.memory.stats().frames <= 2
    assert int(tracker.memory.tokens.frame.max()) == 5


def test_the_loss_and_the_regularizer_can_be_trained_with():
    check_loss(focal)
    check_regularizer(Tempered(3.0))
    sure, unsure = torch.tensor([0.01, 0.99]), torch.tensor([0.4, 0.6])
    losses = [
        focal(p[None, :, None, None].expand(1, 2, 4, 4), torch.ones(1, 4, 4).long(), None) for p in (sure, unsure)
    ]
    assert losses[0] < losses[1]


def test_the_data_set_finds_masks_beside_their_frames(tmp_path):
    (tmp_path / "cat").mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"cat/{index:04d}.jpg")
    Image.new("L", (8, 8), 1).save(tmp_path / "cat/0000_mask.png")
    (video,) = open_side_by_side(tmp_path)
    assert (video.name, len(video.frames), list(video.masks)) == ("cat", 3, [0])
