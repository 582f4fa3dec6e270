import numpy as np
from drawn_clip import drawn_clip
from refusals import refusal

from mnemask import Frame
from mnemask.comparison.frames import FrameStore
from mnemask.errors import InputError


def frames(num_frames=4):
    return [Frame(image, index, index / 10, f"a{index}") for index, image in enumerate(drawn_clip(num_frames)[0])]


def test_frames_come_back_in_any_order_while_the_block_lasts(tmp_path):
    seen = []
    with FrameStore(frames(), tmp_path / "store", lambda: seen.append(1)) as store:
        assert store.clip.names == ("a0", "a1", "a2", "a3")
        assert store.clip.seconds == (0.0, 0.1, 0.2, 0.3)
        assert (len(store.clip), store.clip.size) == (4, (64, 96))
        for index in (3, 0, 2):
            difference = store.image(index).astype(int) - frames()[index].image.permute(1, 2, 0).numpy()
            assert np.abs(difference).mean() < 8
    assert len(seen) == 4
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path):
    with refusal(InputError, "nothing"):
        FrameStore(frames(1), tmp_path / "store")
    twice = [Frame(frame.image, index, name="same") for index, frame in enumerate(frames(2))]
    with refusal(InputError, r"same\.png"):
        FrameStore(twice, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
