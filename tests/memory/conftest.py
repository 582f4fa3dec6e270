import pytest
import torch
from frame_tokens import frame_tokens

from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget


@pytest.fixture
def fill_bank():
    """Writes and reads frames of 10 cells: the first pinned, two objects, and at `newcomer_at` a third one.

    The newcomer's first `newcomer_pins` cells are pinned. Returns the bank.
    """

    def fill(policy, frames, num_steps, newcomer_at, newcomer_pins=0):
        bank = MemoryBank(TrackerConfig(policy, Budget(frames=frames), top_k=3))
        for step in range(num_steps):
            if step == newcomer_at:
                bank.add_object()
            frame = frame_tokens(step, 10, 2 if step < newcomer_at else 3)
            pins = torch.zeros_like(frame.pins)
            pins[0] = step == 0
            if step == newcomer_at:
                pins[2, :newcomer_pins] = True
            bank.write(frame.key, frame.value, frame.mask_fraction, frame=step, step=step, pins=pins)
            bank.read(frame.key, step)
        return bank

    return fill
