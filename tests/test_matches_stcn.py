import pytest
import torch
from drawn_clip import drawn_clip
from reference_stcn import ReferenceSTCN, evaluate, random_weights

from mnemask import FirstAndLatest, KeepAll, Tracker, load_model


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """One set of random weights in the reference and, by way of a file, in ours."""
    weights = random_weights()
    reference = ReferenceSTCN().eval()
    reference.load_state_dict(weights, strict=True)
    path = tmp_path_factory.mktemp("weights") / "stcn.pth"
    torch.save(weights, path)
    model = load_model(path, device="cpu", dtype=torch.float32)
    path.unlink()  # 218 MB
    return reference, model


def differing(probs):
    """How much the masks change over the video and over the picture."""
    later = torch.stack(probs[1:])
    return float(later.std((0, 2, 3)).min()), float((later[1:] - later[:-1]).abs().max())


@pytest.mark.parametrize("num_objects", [1, 3])
@pytest.mark.parametrize(("policy", "every"), [(KeepAll(), 5), (FirstAndLatest(), None)])
def test_probabilities_are_those_of_stcn_in_every_frame(networks, num_objects, policy, every):
    reference, model = networks
    frames, masks = drawn_clip(12, 43, 57, num_objects)
    expected = evaluate(reference, frames, masks[0], every)
    over_picture, over_time = differing(expected)
    assert over_picture > 0.05
    assert over_time > 0.05

    tracker = Tracker(model, policy, short_side=None)
    prompts = {k + 1: masks[0, k] for k in range(num_objects)}
    for t, frame in enumerate(frames):
        found = tracker.step(frame, prompts if t == 0 else None)
        assert found.probs.shape == expected[t].shape
        assert float((found.probs - expected[t]).abs().max()) < 1e-4, f"frame {t}"
    assert len(tracker.memory.tokens) == (3 if every else 2) * 12
