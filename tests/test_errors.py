"""Every error that a caller can cause says what is wrong and what to do about it."""

import ast
from pathlib import Path

import pytest

import mnemask.errors
from mnemask.errors import MnemaskError, counted

SOURCE = Path(mnemask.errors.__file__).resolve().parent
KINDS = {
    name for name, kind in vars(mnemask.errors).items() if isinstance(kind, type) and issubclass(kind, MnemaskError)
}


def without_a_remedy(path):
    """Where a file makes an error of one argument, or with a remedy that is empty."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in KINDS:
            continue
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            continue  # a pair of both
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        remedy = arguments[1] if len(arguments) > 1 else None
        if remedy is None or (isinstance(remedy, ast.Constant) and not remedy.value):
            yield f"{path.name}:{node.lineno}"


def test_every_error_has_a_remedy():
    assert [place for path in sorted(SOURCE.rglob("*.py")) for place in without_a_remedy(path)] == []


def test_an_error_without_a_remedy_is_found(tmp_path):
    (tmp_path / "some.py").write_text(
        'raise InputError("wrong")\nraise mm.FrameError("wrong", "")\nraise MaskError("wrong", remedy="do this")\n'
    )
    assert list(without_a_remedy(tmp_path / "some.py")) == ["some.py:1", "some.py:2"]


def test_the_text_is_the_problem_and_the_remedy():
    error = MnemaskError("the folder is full", "make room")
    assert (error.problem, error.remedy) == ("the folder is full", "make room")
    assert str(error) == "the folder is full; make room"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ((1, "mask"), "1 mask"),
        ((0, "mask"), "0 masks"),
        ((1234, "mask"), "1,234 masks"),
        ((1, "mask is", "masks are"), "1 mask is"),
        ((2, "mask is", "masks are"), "2 masks are"),
    ],
)
def test_counts_are_inflected(said, text):
    assert counted(*said) == text
