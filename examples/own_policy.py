"""A memory policy of one's own, beside two that come with the package.

python examples/own_policy.py
"""

from dataclasses import dataclass

import mnemask as mm
from mnemask.memory.policies import LFU, KeepAll
from mnemask.metrics import region_similarity


@dataclass(frozen=True)
class Newest(mm.Policy):
    """Keeps the annotated frame and whatever was written last."""

    def update(self, memory, new, budget):
        both = memory + new
        return mm.keep_best(both, both.written_at, budget)


def main(num_frames: int = 30) -> dict[str, float]:
    """Returns each policy's mean J on a drawn clip."""
    video = mm.DrawnVideo(num_frames, size=(144, 256), num_objects=2, seed=3)
    model = mm.load_model("compact")
    scores = {}
    for name, policy in {"newest": Newest(), "lfu-pinned": LFU(), "keep-all": KeepAll()}.items():
        tracker = mm.Tracker(model, policy=policy, short_side=None)
        found = []
        for frame, truth in video:
            masks = tracker.step(frame, {1: truth == 1, 2: truth == 2} if frame.index == 0 else None)
            found += [
                region_similarity(masks.mask(object_id).numpy(), (truth == object_id).numpy())
                for object_id in video.visible(frame.index)
            ]
        scores[name] = sum(found) / len(found)
        print(f"{name:12s} J {100 * scores[name]:.1f}, {tracker.memory.stats().tokens} tokens")
    return scores


if __name__ == "__main__":
    main()
