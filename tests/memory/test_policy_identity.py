"""What is recorded of a custom policy tells it from others, and is the same in every process."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from refusals import refusal

import mnemask as mm
from mnemask.errors import InputError
from mnemask.memory.policies import choose_policy, policy_named, register_policy, saved_policy

SOURCE = """
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mnemask as mm


def by_age(tokens, power=1):
    return tokens.written_at**power


def raised_to(power):
    return lambda tokens: tokens.written_at**power


@dataclass(frozen=True)
class Scored(mm.Policy):
    score: Callable = by_age
    other: Callable = raised_to(2)
    third: Callable = partial(by_age, power=3)
    names: frozenset = frozenset({"sky", "tree", "road", "car"})

    def update(self, memory, new, budget):
        both = memory + new
        return mm.keep_best(both, self.score(both), budget)
"""


@dataclass(frozen=True, eq=False)
class Holding(mm.Policy):
    held: object = None

    def update(self, memory, new, budget):
        return mm.keep_best(memory + new, (memory + new).written_at, budget)


class Temperature(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value


class Caching(torch.nn.Module):
    """A network that refers to itself, and holds what JSON has no key for."""

    def __init__(self, value):
        super().__init__()
        self.sizes = {(3, 4): torch.full((2,), value)}
        self.child = torch.nn.Linear(1, 1, bias=False)
        self.child.weight.data.fill_(value)
        self.child.parents = [self]
        self.usual = self.forward


def counted_down(power):
    def count(tokens):
        return tokens.written_at if power else count(tokens)

    return count


def raised_to(power):
    return lambda tokens: tokens.written_at**power


def network(seed, between=None):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), between or torch.nn.ReLU(), torch.nn.GRU(4, 2))


def with_another(values):
    values[1000] += 1
    return values


@pytest.mark.parametrize(
    ("held", "again", "other"),
    [
        (network(0), network(0), network(1)),
        (network(0), network(0), network(0, torch.nn.Tanh())),
        (Temperature(1.0), Temperature(1.0), Temperature(2.0)),
        (Caching(1.0), Caching(1.0), Caching(2.0)),
        (counted_down(1), counted_down(1), counted_down(2)),
        ({(3, 4): 1}, {(3, 4): 1}, {(3, 4): 2}),
        (torch.zeros(2000), torch.zeros(2000), with_another(torch.zeros(2000))),
        (np.zeros(2000), np.zeros(2000), with_another(np.zeros(2000))),
        ([torch.zeros(2000)], [torch.zeros(2000)], [with_another(torch.zeros(2000))]),
        (Holding(torch.zeros(2000)), Holding(torch.zeros(2000)), Holding(with_another(torch.zeros(2000)))),
        ((Holding(3),), (Holding(3),), (Holding(4),)),
        (raised_to(2), raised_to(2), raised_to(3)),
        (partial(raised_to, 2), partial(raised_to, 2), partial(raised_to, 3)),
        (raised_to, raised_to, network),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_policy_is_another_one_once_anything_that_it_holds_has_changed(held, again, other):
    before = json.dumps(saved_policy(Holding(held)))
    assert json.dumps(saved_policy(Holding(again))) == before
    assert json.dumps(saved_policy(Holding(other))) != before


def test_training_a_network_makes_its_policy_another_one():
    policy = Holding(torch.nn.Linear(64, 1))
    before = saved_policy(policy)
    with torch.no_grad():
        policy.held.weight[0, 5] += 1
    assert saved_policy(policy) != before


def test_numbers_and_texts_are_recorded_as_they_are():
    for plain in (3, 0.5, "a", None, True, [1, 2], {"a": 1}):
        assert saved_policy(Holding(plain))["held"] == plain


def test_functions_are_recorded_alike_in_every_process(tmp_path):
    (tmp_path / "own_scores.py").write_text(SOURCE)
    program = (
        "import json, own_scores; from mnemask.memory.policies import saved_policy;"
        "print(json.dumps(saved_policy(own_scores.Scored())))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert " at 0x" not in runs[0]
    assert "own_scores:by_age" in runs[0]


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: [it], lambda it: Holding(it), Temperature])
def test_what_no_other_process_could_recognise_is_refused_when_the_policy_is_named(wrap):
    with refusal(InputError, "held|inner"):
        register_policy("unrecognisable", Holding(wrap(object())))


@pytest.mark.parametrize("held", [Caching(1.0), counted_down(1), {(3, 4): 1}], ids=lambda value: type(value).__name__)
def test_a_policy_may_hold_what_refers_to_itself_or_has_no_key_in_json(held):
    register_policy("recognisable", Holding(held))


def test_a_policy_with_a_function_can_be_named(tmp_path, monkeypatch):
    (tmp_path / "own_scores.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert saved_policy(policy_named(choose_policy(f"{tmp_path / 'own_scores.py'}:Scored")))["names"][0] == "car"
    finally:
        sys.modules.pop("own_scores", None)
