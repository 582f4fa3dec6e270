"""Key features that several trackers share."""

import pytest
import torch

from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.engines.parts import FeatureCache, cached_features
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker


class Counting(STCN):
    """Counts how often it looks at an image."""

    def __init__(self, model):
        super().__init__(model.config)
        self.load_state_dict(model.state_dict())
        self.eval().requires_grad_(False)
        self.looks = 0

    def encode_key(self, image):
        self.looks += 1
        return super().encode_key(image)


@pytest.fixture
def network(tiny_model):
    return Counting(tiny_model)


def masks_of(network, policy, num_frames=8):
    tracker = Tracker(network, policy=policy, short_side=48)
    clip = DrawnVideo(num_frames, size=(48, 64), seed=1)
    return [
        tracker.step(frame, {1: labels == 1} if frame.index == 0 else None).labels
        for frame, labels in ((moment[0], moment[1]) for moment in clip)
    ]


def test_the_second_tracker_looks_at_nothing_again_and_sees_the_same(network):
    shared = cached_features(network)
    shared.begin("clip")
    first = [masks_of(shared, policy) for policy in ("lfu", "keep-all")]
    assert network.looks == 8
    assert [len(masks) for masks in first] == [8, 8]
    for policy, masks in zip(("lfu", "keep-all"), first, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(masks, masks_of(network, policy), strict=True))


def test_what_was_spared_counts_as_time(network):
    shared = FeatureCache(network)
    masks_of(shared, "lfu")
    assert shared.spared() <= 0  # nothing yet, and names for the frames had to be found
    masks_of(shared, "lfu")
    assert shared.spared() > 0
    assert shared.spared() == 0


def test_another_sequence_begins_anew_and_room_is_bounded(network):
    image = torch.rand(1, 3, 48, 64)
    roomy, tight = FeatureCache(network), FeatureCache(network, most_bytes=1000)
    for shared, looks in ((roomy, 1), (tight, 3)):
        network.looks = 0
        for _ in range(3):
            features = shared.encode_key(image)
        assert network.looks == looks
        assert torch.equal(features.key, network.encode_key(image).key)
    roomy.begin("another")
    network.looks = 0
    roomy.encode_key(image)
    assert (network.looks, len(roomy.seen)) == (1, 1)


def test_one_network_has_one_memory_of_looks(network, tiny_model):
    assert cached_features(network) is cached_features(network)
    assert cached_features(tiny_model) is not cached_features(network)
