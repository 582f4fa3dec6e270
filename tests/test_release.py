"""What a release consists of agrees: versions, files in the wheel and their size, workflows, citation, recipe."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")}


def shipped():
    """The files of the package that go into a wheel."""
    patterns = ["**/*.py", *PROJECT["tool"]["setuptools"]["package-data"]["mnemask"]]
    return {path for pattern in patterns for path in (ROOT / "src/mnemask").glob(pattern) if path.is_file()}


def test_the_package_is_at_most_60_mb_and_typed_and_leaves_no_file_behind():
    assert sum(path.stat().st_size for path in shipped()) <= 60 * 10**6
    assert ROOT / "src/mnemask/py.typed" in shipped()
    there = {path for path in (ROOT / "src/mnemask").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there - shipped() == set(), "add it to package-data in pyproject.toml"


def test_the_changelog_and_the_citation_have_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    assert VERSION in re.search(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_recipe_of_conda_asks_for_what_pip_asks_for():
    names = {"opencv-python-headless": "opencv", "torch": "pytorch"}
    recipe = (ROOT / "conda/meta.yaml").read_text()
    for line in PROJECT["project"]["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(\S+?)(; .*)?", line).groups()[:2]
        assert ";" in line or f"- {names.get(name, name)} {bounds}\n" in recipe, line


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_what_there_is_with_no_more_rights_than_it_needs(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job.get("needs", name) in {name, *workflow["jobs"]}
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))
            for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                assert target in targets
            for script in re.findall(r"^\.ci/\w+", step.get("run", "")):
                assert (ROOT / script).exists()


def test_only_the_job_that_publishes_may_have_a_token_of_its_own():
    jobs = WORKFLOWS["release"]["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert jobs["publish"]["environment"] == "pypi"


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem)
def test_a_form_of_an_issue_can_be_read(path):
    form = yaml.safe_load(path.read_text())
    if path.stem != "config":
        assert {"name", "description", "body"} <= set(form)
        assert all(
            {"type", "id", "attributes"} <= set(field) and field["attributes"]["label"] for field in form["body"]
        )


def test_what_was_built_holds_the_package_and_nothing_else():
    """Of `make release-check`, where dist/ is there."""
    for path in ROOT.glob("dist/*.whl"):
        names = set(zipfile.ZipFile(path).namelist())
        assert {str(file.relative_to(ROOT / "src")) for file in shipped()} <= names
        assert all(name.startswith((f"mnemask-{VERSION}.dist-info/", "mnemask/")) for name in names)
        assert path.stat().st_size <= 60 * 10**6
    for path in ROOT.glob("dist/*.tar.gz"):
        with tarfile.open(path) as archive:
            assert f"mnemask-{VERSION}/src/mnemask/py.typed" in archive.getnames()
