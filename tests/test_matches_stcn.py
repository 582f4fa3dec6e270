import json
from pathlib import Path

import pytest
import torch
from drawn_clip import drawn_clip
from reference_stcn import ReferenceSTCN, evaluate, random_weights

from mnemask import Tracker, load_model
from mnemask.memory.policies import FirstAndLatest, KeepAll

# Mean of each class's probability in each frame, as the reference gave it when it was written.
RECORDED = json.loads((Path(__file__).parent / "recorded/reference_stcn.json").read_text())


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


def smallest_spread(probs):
    """How much the predictions differ at least: from place to place, from frame to frame, from class to class."""
    later = torch.stack(probs[1:])
    over_time = (later[1:] - later[:-1]).abs().amax((1, 2, 3))
    between = min(float((later[:, i] - later[:, j]).abs().max()) for i in range(later.shape[1]) for j in range(i))
    return min(float(later.std((2, 3)).min()), float(over_time.min()), between)


@pytest.mark.parametrize("num_objects", [1, 3])
@pytest.mark.parametrize(("policy", "every"), [(KeepAll(), 5), (FirstAndLatest(), None)])
def test_probabilities_are_those_of_stcn_in_every_frame(networks, num_objects, policy, every):
    reference, model = networks
    frames, masks = drawn_clip(12, 43, 57, num_objects)
    expected = evaluate(reference, frames, masks[0], every)
    assert smallest_spread(expected) > 0.03
    means = torch.stack(expected).mean((2, 3))
    recorded = torch.tensor(RECORDED[f"{num_objects} objects, every {every}"])
    assert float((means - recorded).abs().max()) < 1e-4, "the reference itself has changed"

    tracker = Tracker(model, policy=policy, short_side=None)
    prompts = {k + 1: masks[0, k] for k in range(num_objects)}
    for t, frame in enumerate(frames):
        found = tracker.step(frame, prompts if t == 0 else None)
        assert found.probs.shape == expected[t].shape
        assert float((found.probs - expected[t]).abs().max()) < 1e-4, f"frame {t}"
    assert len(tracker.memory.tokens) == (3 if every else 2) * 12
