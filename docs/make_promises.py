"""Writes the page of promises, from the names of the tests that inject faults: ``python docs/make_promises.py``.

A test's name is a sentence about behaviour, which is the promise. The docstring of its file says what is injected. The
outcomes are read from the report of a test run (``pytest --junitxml=build/tests.xml``), if there is one.
"""

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "build/tests.xml"
AREAS = {
    "Damaged and endless video": ("io/test_reader", "io/test_damaged", "io/test_endless"),
    "Hostile files": ("fuzz/", "io/test_hostile", "model/test_checkpoints", "test_saved_tracker", "test_state"),
    "Interrupted and failing runs": ("pipeline/", "cli/test_long", "cli/test_stop", "io/test_lock"),
    "Many clips: workers and nodes that die": ("manifest/",),
    "A step that fails": ("test_faults", "test_tracker_batch", "test_threads", "tracker/"),
    "Policies of your own": ("test_plugins",),
    "Prompts that are refused or doubted": ("prompts/",),
    "The studio, projects and the service": ("studio/", "project/", "test_service"),
    "The same masks": ("test_recorded", "test_matches", "test_another_precision", "test_torch_modes"),
}
HEAD = """# Promises and their tests

Generated when this site is built, from the names of {count} tests. Each name is a promise; the line above a list says what its file injects.
The guarantees in words are in [reliability](reliability.md), [long runs](long-runs.md) and [streams](streams.md).

{happened}
"""


def page() -> str:
    """Returns the text of the page."""
    results = outcomes()
    sections, count = [], 0
    for title, prefixes in AREAS.items():
        sections.append(f"## {title}\n")
        for path in sorted((ROOT / "tests").rglob("test_*.py")):
            name = str(path.relative_to(ROOT / "tests"))
            if name.startswith(prefixes):
                injected, promised = described(path)
                count += len(promised)
                sections += [f"### `{name}`\n", f"{injected}\n", *promised, f"\n{happened(results, name)}\n"]
    when = "The outcomes of the last test run before the build are below each list."
    head = HEAD.format(count=count, happened=when if results else "This build had no report of a test run.")
    return "\n".join([head, *sections]) + "\n"


def described(path: Path) -> tuple[str, list[str]]:
    """Returns the first paragraph of a test file's docstring, and the promises of its tests as list items."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    injected = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return injected, [f"* {sentence(name)}" for name in names]


def sentence(name: str) -> str:
    """Returns the words of a test's name."""
    words = name.removeprefix("test_").replace("_", " ")
    return re.sub(r"\bones own\b", "one's own", words[:1].upper() + words[1:])


def outcomes() -> dict[str, Counter[str]]:
    """Returns, by file, how many cases passed, failed and were skipped in the last run; empty without a report."""
    found: dict[str, Counter[str]] = {}
    if REPORT.exists():
        for case in ElementTree.parse(REPORT).iter("testcase"):  # written by our own test run
            kinds = {child.tag for child in case}
            outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            file = case.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
            found.setdefault(file, Counter())[outcome] += 1
    return found


def happened(results: dict[str, Counter[str]], name: str) -> str:
    """Returns the outcomes of a file's cases as text, "" without a report."""
    counts = results.get(name)
    return f"*{', '.join(f'{number} {outcome}' for outcome, number in counts.most_common())}*" if counts else ""


if __name__ == "__main__":
    sys.stdout.write(page())
