import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from refusals import refusal

import mnemask

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = (
    "onnx",
    "onnxruntime",
    "openvino",
    "pycocotools",
    "beartype",
    "hypothesis",
    "pytest",
    "trackeval",
    "pandas",
    "matplotlib",
    "ray",
    "fastapi",
    "starlette",
    "uvicorn",
    "websockets",
    "playwright",
)


def names_for_type_checkers():
    """The names that the package's own file imports, where only a type checker reads it."""
    tree = ast.parse(Path(mnemask.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in imports for alias in node.names]


def test_every_name_that_is_imported_is_public_and_named_once():
    names = [name for _, name in names_for_type_checkers()]
    assert sorted(mnemask.__all__) == sorted(names)
    assert len(mnemask.__all__) == len(set(mnemask.__all__))
    assert set(mnemask.__all__) <= set(dir(mnemask))


@pytest.mark.parametrize(("module", "name"), names_for_type_checkers())
def test_a_public_name_is_the_one_that_a_type_checker_sees(module, name):
    assert getattr(mnemask, name) is getattr(import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mnemask.no_such_name


@pytest.mark.parametrize("name", mnemask.__all__)
def test_every_public_name_exists_and_says_what_it_is(name):
    value = getattr(mnemask, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        first = (inspect.getdoc(value) or "").split("\n")[0]
        assert re.fullmatch(r"\S.*[.:]", first), f"{name} has no docstring whose first line is a sentence: {first!r}"
        assert not first.startswith(f"{name}("), f"{name} has the docstring that dataclass makes up"


@pytest.mark.parametrize("name", [name for name in mnemask.__all__ if inspect.isclass(getattr(mnemask, name))])
def test_every_public_method_says_what_it_does(name):
    for method, value in vars(getattr(mnemask, name)).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_every_error_is_one_that_a_caller_can_catch_at_the_root():
    from mnemask import errors

    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert len(kinds) > 5
    assert all(issubclass(kind, mnemask.MnemaskError) for kind in kinds)
    assert all(issubclass(kind, ValueError) for kind in kinds if issubclass(kind, mnemask.InputError))


def test_the_version_is_that_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    written = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    if written is None:
        assert re.search(r"^dynamic = .*version", text, re.MULTILINE)
    else:
        assert mnemask.__version__ == written[1]


def test_the_package_imports_without_optional_packages_and_says_nothing():
    block = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {OPTIONAL}: raise ImportError(name + ' is not installed')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import mnemask\n"
        "for name in mnemask.__all__: getattr(mnemask, name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, check=False, cwd=ROOT / "src"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_public_names_are_those_that_a_user_needs():
    assert len(mnemask.__all__) <= 28


def test_the_program_of_somebody_else_that_make_types_checks_uses_every_public_name():
    program = ROOT / "tests/typed/consumer.py"
    assert set(re.findall(r"\bmm\.(\w+)", program.read_text(encoding="utf-8"))) == set(mnemask.__all__)


def test_a_tracker_needs_few_modules():
    code = (
        "import sys, mnemask as mm\nmm.Tracker(mm.load_model('compact'))\n"
        "print(sum(name.partition('.')[0] == 'mnemask' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 80


@pytest.mark.parametrize(
    "call",
    [
        lambda: mnemask.load_model(None),
        lambda: mnemask.load_model("a\0b"),
        lambda: mnemask.read_mask(None),
        lambda: mnemask.read_mask("a\0.png"),
        lambda: mnemask.read_mask("first.png", antialiased="maybe"),
        lambda: mnemask.MaskWriter("a\0b"),
        lambda: mnemask.VideoReader(-1),
        lambda: mnemask.VideoReader(True),
        lambda: mnemask.Frame(None, 0),
        lambda: mnemask.Frame(torch.zeros(3, 8, 8, dtype=torch.uint8), "x"),
        lambda: mnemask.Frame(torch.zeros(3, 8, 8, dtype=torch.uint8), -1),
    ],
)
def test_what_a_caller_gives_by_mistake_is_an_error_of_the_package(call, as_users_call_it):
    with refusal((mnemask.MnemaskError,)):
        call()
