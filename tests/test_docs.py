"""What the documents say exists: files, headings, commands, options, names; their Python compiles."""

import ast
import re
import runpy
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

import mnemask as mm
from mnemask import errors
from mnemask.cli import app
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.demo import write_clip
from mnemask.io.written import Written
from mnemask.testing import check_loss, check_regularizer

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "docs/api.md"
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/results/*.md")} - {GENERATED})
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])

COMMANDS = typer.main.get_command(app).commands
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in COMMANDS.items()
}
SCRIPTS = "\n".join(
    path.read_text()
    for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("tests/*.py"))
)


def blocks(page, language):
    """The fenced blocks of a language, "" for those without one."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, each, text in found if each == language]


def spans(page):
    """The code between single backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{link}: no such file"
            assert not anchor or anchor in headings(target), f"{link}: no such heading"


@every_page
def test_every_command_has_the_options_it_is_shown_with(page):
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    for line in (*lines, *spans(page)):
        for command, rest in re.findall(r"(?<!import )\bmnemask ([a-z][a-z-]*)([^#;|]*)", line.partition(" #")[0]):
            assert command in OPTIONS, f"{line}: no command {command}"
            for option in re.findall(r"(?<!\S)(-{1,2}[a-z][a-z-]*)", rest):
                assert option in OPTIONS[command] | {"--help"}, f"{line}: {command} has no {option}"


@every_page
def test_every_option_that_is_named_belongs_to_a_command_or_script(page):
    known = {"--version", "--help"}.union(*OPTIONS.values())
    for span in spans(page):
        if match := re.match(r"--[a-z][a-z-]*", span):
            assert match[0] in known or f'"{match[0]}"' in SCRIPTS, f"{span}: no such option"


@every_page
def test_every_script_and_target_is_there_with_the_options_it_is_shown_with(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [line for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    for line in (*lines, *spans(page)):
        for script, rest in re.findall(r"\bpython ((?:examples|benchmarks|docs|tests)/[\w/]+\.py)([^#;|]*)", line):
            text = (ROOT / script).read_text()
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest):
                assert option == "--help" or re.search(rf'"(--)?{option[2:]}"', text), (
                    f"{line}: {script} has no {option}"
                )
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert target in targets, f"{line}: no such target"


@every_page
def test_every_file_of_the_project_that_is_named_is_there(page):
    for path in re.findall(r"`(?:python )?((?:src|tests|docs|examples|benchmarks|\.ci)/[\w./-]+)", page.read_text()):
        assert (ROOT / path.rstrip(".")).exists(), f"{path} is not there"


@every_page
def test_every_name_inside_the_package_can_be_imported(page):
    for name in re.findall(r"`(mnemask(?:\.\w+)+)", page.read_text()):
        module, found = name.split("."), None
        while found is None:
            try:
                found = import_module(".".join(module))
            except ModuleNotFoundError:
                module.pop()
        for attribute in name.split(".")[len(module) :]:
            found = getattr(found, attribute)


@every_page
def test_every_public_name_that_is_used_is_public(page):
    names = re.findall(r"\bmm\.(\w+)", page.read_text())
    assert set(names) <= set(mm.__all__)


@every_page
def test_python_in_the_documents_compiles_and_imports_what_there_is(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block, str(page))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mnemask"):
                assert all(hasattr(import_module(node.module), alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", [*PAGES, GENERATED], ids=lambda page: page.name)
def test_every_fence_is_closed(page):
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0, "a fence is not closed"
    assert not any(fences[1::2]), f"a fence is not closed before {next(filter(None, fences[1::2]))}"


def test_the_page_of_public_names_is_what_the_docstrings_say():
    page = runpy.run_path(str(ROOT / "docs/make_api.py"))["page"]()
    assert page == GENERATED.read_text(), "run: python docs/make_api.py"


def test_every_error_on_the_page_of_public_names_is_imported_as_the_page_says():
    page = GENERATED.read_text()
    said = re.findall(r"^from mnemask\.errors import (.+)$", page, re.MULTILINE)
    imported = {name for line in said for name in line.split(", ")} | {name for name in mm.__all__ if "Error" in name}
    raised = set(re.findall(r"^\* `(\w+Error)`:", page, re.MULTILINE))
    assert {"BudgetError", "FrameError"} <= raised
    assert raised <= imported
    assert {name for name in vars(errors) if name.endswith("Error")} == imported


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    video = DrawnVideo(3, size=(64, 96), num_objects=2)
    write_clip(video, tmp_path / "street.mp4", tmp_path / "first.png", Written(tmp_path, ".drawn"))
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(ROOT / "README.md", "python")
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["tracker"].object_ids == (1,)
    assert len(list(tmp_path.glob("out/**/*.png"))) == 3
    assert mm.Tracker.load("street.bank", names["tracker"].model).object_ids == (1, 2)


def names_in(nav):
    """The pages that an entry of the site's navigation leads to."""
    if isinstance(nav, str):
        return [nav]
    return [name for entry in (nav.values() if isinstance(nav, dict) else nav) for name in names_in(entry)]


def test_every_page_has_one_place_in_the_navigation_of_the_site():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = [path.name for path in ROOT.glob("docs/*.md")] + ["changelog.md", "contributing.md", "security.md"]
    pages += ["promises.md", *(f"benchmarks/results/{path.name}" for path in ROOT.glob("benchmarks/results/*.md"))]
    assert sorted(names_in(site["nav"])) == sorted(pages), "add the page to `nav` in mkdocs.yml"


def test_every_area_of_the_page_of_promises_has_tests():
    promises = runpy.run_path(str(ROOT / "docs/make_promises.py"))
    names = [str(path.relative_to(ROOT / "tests")) for path in ROOT.glob("tests/**/test_*.py")]
    for prefix in [prefix for prefixes in promises["AREAS"].values() for prefix in prefixes]:
        assert any(name.startswith(prefix) for name in names), f"docs/make_promises.py: no tests are in {prefix}"
    assert promises["page"]().count("\n* ") > 500


DRAWN = ("clip.mp4", "street.mp4", "video.mp4", "old.avi", "frames", "masks", "first.png", "demo")
LINES = {
    line.partition(" #")[0].strip()
    for page in PAGES
    for block in blocks(page, "")
    for line in block.replace("\\\n", " ").splitlines()
}
WAITS = re.compile(r"--object|--follow|--live|--resume|--start|--bank|--at\b|--at-frame|--remove|--model|\|")
RUNNABLE = sorted(
    line
    for line in LINES
    if re.match(r"mnemask (segment|compare|doctor|experiment --list|inspect) ?", line)
    and not WAITS.search(line)
    and all(word.split("/")[0] in DRAWN for word in re.findall(r"(?<![=\w/-])[\w/]+(?:\.\w+|/)(?= |$)", line))
)


@pytest.fixture(scope="module")
def drawn_folder(tmp_path_factory):
    """The files that commands in the documents name: a short video in several shapes, its masks."""
    folder = tmp_path_factory.mktemp("documents")
    video = DrawnVideo(3, size=(320, 480), num_objects=1)
    written = Written(folder, ".drawn")
    for name in ("street.mp4", "demo/clip.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(video, folder / name, (folder / name).parent / f"first-{Path(name).stem}.png", written)
    for name, first in (("first.png", "first-street.png"), ("demo/first.png", "demo/first-clip.png")):
        (folder / first).rename(folder / name)
    for name in ("video.mp4", "old.avi"):  # what a file holds is found by its content
        (folder / name).write_bytes((folder / "street.mp4").read_bytes())
    policies = blocks(ROOT / "docs/policies.md", "python")
    (folder / "newest.py").write_text(next(block for block in policies if "class Newest" in block))
    for kind in ("frames", "masks"):
        (folder / kind).mkdir()
    for frame, truth in video:
        Image.fromarray(frame.image.permute(1, 2, 0).numpy()).save(folder / f"frames/{frame.index:05d}.png")
        Image.fromarray(truth.byte().numpy()).save(folder / f"masks/{frame.index:05d}.png")
    return folder


def test_enough_commands_of_the_documents_are_run():
    assert len(RUNNABLE) >= 12


@pytest.mark.parametrize("line", RUNNABLE)
def test_a_command_of_the_documents_runs_on_a_drawn_video(line, drawn_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in drawn_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    arguments = shlex.split(line)[1:]
    small = ["--size", "48"] if arguments[0] in ("segment", "compare", "inspect") else []
    done = CliRunner().invoke(app, [*arguments, *small])
    assert done.exit_code == 0, done.output


def test_the_policy_on_the_page_for_researchers_keeps_within_its_budget():
    (block,) = blocks(ROOT / "docs/for-researchers.md", "python")
    names = {"__name__": "mine"}
    exec(compile(block, "for-researchers.md", "exec"), names)
    tracker = mm.Tracker(mm.load_model("compact"), policy=names["Newest"](), budget=mm.Budget(frames=2), short_side=48)
    for frame, truth in DrawnVideo(12, size=(64, 96), num_objects=1):
        tracker.step(frame, {1: truth == 1} if frame.index == 0 else None)
    assert 0 < tracker.memory.stats().tokens <= 2 * 3 * 5


def test_the_loss_and_the_regularizer_on_the_page_of_training_pass_their_checks():
    block = next(block for block in blocks(ROOT / "docs/training.md", "python") if "def focal" in block)
    names = {"__name__": "mine"}
    exec(compile(block, "training.md", "exec"), names)
    check_loss(names["focal"])
    check_regularizer(names["Tempered"]())


def test_the_page_of_licences_names_every_dependency_of_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {name: group for name, group in project["optional-dependencies"].items() if name not in ("dev", "docs")}
    wanted = {re.match(r"[\w-]+", line)[0] for line in sum(groups.values(), project["dependencies"])} - {"mnemask"}
    listed = set(re.findall(r"^\| ([\w.-]+) \|", (ROOT / "docs/licences.md").read_text(), re.MULTILINE))
    assert wanted <= listed, "run: python docs/make_sbom.py --licences"
