"""Imports run one way only, from the parts to the whole: six boxes, and an order within each."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mnemask"

# Six boxes. A module imports from its own box and from those before it, and, within a box, from what stands before it
# in a line of its own. "mnemask" is the package itself, whose public names only the last box may use.
BOXES = (
    # What there is to work with: values, files, prompts.
    (("version",), ("errors",), ("choices", "plugins"), ("types",), ("io",)),
    # The network, and the prompts that it helps to make.
    (("model",), ("prompts",)),
    # What is remembered.
    (("memory", "config"),),
    # A frame in, masks out.
    (("state",), ("tracker", "step"), ("batch",)),
    # What is done with a tracker.
    (
        ("metrics",),
        ("datasets",),
        ("engines",),
        ("evaluation",),
        ("training",),
        ("pipeline",),
        ("project", "inspection", "comparison", "experiments", "bench"),
        ("manifest", "demo", "doctor", "export", "testing"),
    ),
    # Who asks for it.
    (("mnemask",), ("studio",), ("cli",), ("__main__",)),
)
ORDER = [parts for box in BOXES for parts in box]
PLACE = {part: place for place, parts in enumerate(ORDER) for part in parts}


def part_of(module):
    """The part that a dotted module name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "mnemask"


def modules(package=PACKAGE):
    """Dotted name and syntax tree of every module."""
    for path in sorted(package.rglob("*.py")):
        parts = ["mnemask", *path.relative_to(package).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), is_package, ast.parse(path.read_text(encoding="utf-8"))


def imports(name, is_package, tree, known):
    """Every module of the package that a module imports, with the name it takes from there, anywhere in its text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mnemask":
                    yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*above, *filter(None, [base])])
            if base.split(".")[0] == "mnemask":
                for alias in node.names:
                    within = f"{base}.{alias.name}"
                    yield (within, None) if within in known else (base, alias.name)


def faults(package=PACKAGE):
    """A sentence for every import that runs against the order, or takes what is another part's own."""
    found, trees = [], list(modules(package))
    known = {name for name, _, _ in trees}
    unknown = sorted({part_of(name) for name in known} - set(PLACE))
    found += [f"mnemask.{name} has no place in BOXES of {Path(__file__).name}; give it one" for name in unknown]
    for importer, is_package, tree in trees:
        mine = part_of(importer)
        for imported, taken in imports(importer, is_package, tree, known):
            theirs = part_of(imported)
            if mine == theirs or not {mine, theirs} <= set(PLACE):
                continue
            if PLACE[theirs] > PLACE[mine]:
                found.append(f"{importer} imports {imported}, but {theirs} comes after {mine}")
            private = [
                word for word in (*imported.split("."), taken or "") if word.startswith("_") and word[:2] != "__"
            ]
            if private:
                found.append(f"{importer} imports {private[0]} from {imported}, which is private to {theirs}")
    return found


def test_a_module_imports_only_from_its_own_part_and_those_before_it():
    assert not faults(), "\n".join(["", *faults()])


def test_the_layout_in_the_documents_has_these_boxes():
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    (diagram,) = re.findall(r"## Layout\n.*?```\n(.*?)```", page, flags=re.DOTALL)
    drawn = [
        {part for line in box.splitlines() for part in re.findall(r"\w+", re.split(r" {2,}", line.strip())[0])}
        for box in diagram.split("│")
    ]
    assert drawn == [{part for parts in box for part in parts} for box in BOXES]


def test_an_import_against_the_order_is_found_wherever_it_hides(tmp_path):
    sources = {
        "__init__.py": "from mnemask.tracker import Tracker\n",
        "errors.py": "def late():\n    from mnemask.memory.bank import MemoryBank\n",
        "memory/__init__.py": "",
        "memory/bank.py": "from . import tokens\nfrom mnemask.errors import Error\nfrom .. import tracker\n",
        "memory/tokens.py": "import mnemask.cli.app as app\n",
        "tracker.py": "from mnemask import Tracker\nfrom mnemask.memory.bank import _secret, __version__\n",
        "utils.py": "",
        "cli/__init__.py": "import mnemask\n",
        "cli/app.py": "import torch\nfrom . import app\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert faults(tmp_path) == [
        "mnemask.utils has no place in BOXES of test_import_layers.py; give it one",
        "mnemask.errors imports mnemask.memory.bank, but memory comes after errors",
        "mnemask.memory.bank imports mnemask.tracker, but tracker comes after memory",
        "mnemask.memory.tokens imports mnemask.cli.app, but cli comes after memory",
        "mnemask.tracker imports mnemask, but mnemask comes after tracker",
        "mnemask.tracker imports _secret from mnemask.memory.bank, which is private to memory",
    ]
