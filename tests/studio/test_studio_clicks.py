import pytest
import torch

from mnemask.studio.clicks import clicked
from mnemask.studio.runs import labels_to_bytes, mask_from_bytes

SIZE = (40, 60)


def area(top, left, bottom, right):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


LARGE, SMALL, NEAR = area(5, 5, 30, 25), area(5, 45, 12, 55), area(10, 26, 20, 29)


class Answering:
    """A session that always finds the same mask."""

    def __init__(self, found):
        self.found = found

    def mask(self, positive, negative, box, previous):
        return self.found


@pytest.mark.parametrize(
    ("found", "positive", "negative", "previous", "expected"),
    [
        (LARGE | SMALL, [(10, 10)], [], None, LARGE),
        (LARGE | SMALL, [(10, 10), (50, 8)], [], None, LARGE | SMALL),
        (LARGE | NEAR | SMALL, [(10, 10)], [], None, LARGE | NEAR),
        (LARGE | SMALL, [], [], None, LARGE | SMALL),  # of a box
        (LARGE | SMALL, [], [(50, 8)], LARGE | SMALL, LARGE),
        (LARGE | SMALL, [(10, 10)], [], LARGE | SMALL, LARGE | SMALL),
        (LARGE, [], [(20, 20)], LARGE, LARGE),  # the network alone says what goes of the largest
        (SMALL, [(10, 10)], [], None, SMALL),  # it knows better than to find nothing
    ],
)
def test_a_mask_has_the_pieces_that_were_clicked_or_were_there(found, positive, negative, previous, expected):
    answer = clicked(Answering(found), positive, negative, None, previous)
    assert torch.equal(answer, expected)


def test_masks_travel_as_runs():
    assert len(labels_to_bytes(LARGE.int() + 700 * SMALL.int())) < 1200
    assert labels_to_bytes(torch.zeros(2, 3, dtype=torch.int32)).hex() == "03000000020000000000000006000000"
    data = torch.tensor([3, 2, 1, 2, 3], dtype=torch.int32).numpy().tobytes()
    assert mask_from_bytes(data, (2, 3)).tolist() == [[False, True, True], [False, False, False]]


@pytest.mark.parametrize("data", [b"", b"\0", b"\3\0\0\0\2\0\0\0", b"\xff" * 400])
def test_what_is_no_mask_of_the_frame_is_refused(data):
    with pytest.raises(ValueError):
        mask_from_bytes(data, (2, 3))
