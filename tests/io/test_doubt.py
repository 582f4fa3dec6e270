import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mnemask.io.table import certainty_now, doubts
from mnemask.types import Masks


def masks_of(mask, probability=0.99):
    probs = torch.where(mask, probability, 1 - probability).float()
    return Masks(mask.int() * 7, torch.stack([1 - probs, probs]), (7,))


def test_confidence_tells_certainty_area_specks_and_what_is_apart():
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[5:25, 5:25] = True
    mask[5:15, 40:50] = True
    mask[38, 58] = True
    found = certainty_now(masks_of(mask, 0.9))[7]
    assert found.certainty == pytest.approx(0.9)
    assert (found.area, found.specks) == (501, 1)
    assert found.apart == pytest.approx(101 / 501)
    gone = certainty_now(masks_of(torch.zeros(40, 60, dtype=torch.bool), 0.99))[7]
    assert (gone.area, gone.specks, gone.apart) == (0, 0, 0)
    assert gone.certainty == pytest.approx(0.99)


class Names(TorchDispatchMode):
    """Notes the operators of PyTorch that are called within it."""

    def __init__(self):
        super().__init__()
        self.called = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.called.add(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


def test_pytorch_computes_nothing_for_it_since_its_threads_would_hold_up_the_network():
    masks = masks_of(torch.ones(40, 60, dtype=torch.bool))
    with Names() as names:
        certainty_now(masks)
    assert names.called <= {"select", "detach"}


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        ({}, 0, 0),
        ({"certainty": 0.7}, 1, 1),
        ({"area": 400}, 0.9, 1),
        ({"specks": 6}, 0.3, 0.7),
        ({"apart": 0.3}, 1, 1),
        ({"area": 1040}, 0, 0),
    ],
)
def test_doubt_is_high_where_a_mask_is_unsure_leaps_or_is_torn(change, least, most):
    usual = {"certainty": 0.99, "area": 1000.0, "specks": 0.0, "apart": 0.0}
    columns = {name: np.full(9, value, np.float32) for name, value in usual.items()}
    for name, value in change.items():
        columns[name][5:] = value
    known = np.ones(9, bool)
    known[8] = False
    doubt = doubts(columns, known)
    assert least <= doubt[5] <= most
    assert doubt[:5].max() == doubt[8] == 0
