"""Hooks for MkDocs: pages outside of docs/, links between them, GitHub's Markdown.

The pages are written to be read in the repository. The hooks turn their links into links of the site: a page outside of
docs/ gets an address in the site, and a linked source file is included unchanged.
"""

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {name: f"{name.lower()}" for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
GENERATED = {"promises.md": "make_promises.py"}
LINK = re.compile(r"(\]\(|\bsrc=\")([^)\s\"#]+)(#[^)\s\"]*)?(?=[)\"])")
FENCE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> None:
    """Gives headings the anchors that they have on GitHub."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages outside of docs/, those that are generated, and the source files that pages link to."""
    pages = {path: ELSEWHERE[path.name] for path in (ROOT / name for name in ELSEWHERE) if path.exists()}
    pages |= {path: str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("benchmarks/results/*"))}
    for path, address in pages.items():
        files.append(File.generated(config, address, abs_src_path=str(path)))
    for address, script in GENERATED.items():
        files.append(File.generated(config, address, content=runpy.run_path(str(ROOT / "docs" / script))["page"]()))
    for file in files.documentation_pages():
        here = _home(file.src_uri)
        for _, link, _ in LINK.findall(file.content_string):
            path = (here.parent / link).resolve()
            if path.is_file() and path.is_relative_to(ROOT) and files.get_file_from_path(_address(path)) is None:
                files.append(File.generated(config, _address(path), abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Returns the page with the site's links, and with an empty line before each list, which MkDocs needs."""
    parts = FENCE.split(markdown)
    text = "".join(part if number % 2 else _prose(part, page.file) for number, part in enumerate(parts))
    if page.file.src_uri.startswith("benchmarks/"):
        page.meta["hide"] = ["toc"]  # tables need the room
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n{_last_change(page.file.src_uri)}\n{rest}"
    return text


def _last_change(path: str) -> str:
    """Returns a sentence that says when a file last changed, "" if git does not know."""
    command = ["git", "log", "-1", "--format=*These figures last changed on %as, in commit `%h`.*", "--", path]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout


def _prose(text: str, file: File) -> str:
    def relinked(found: re.Match[str]) -> str:
        path = (_home(file.src_uri).parent / found[2]).resolve()
        if "://" in found[2] or not path.exists() or not path.is_relative_to(ROOT):
            return found[0]
        up = "../" * file.src_uri.count("/")
        return f"{found[1]}{up}{_address(path)}{found[3] or ''}"

    text = re.sub(r"\[([\w-]+)\.md\]\(", r"[\1](", LINK.sub(relinked, text))  # on the site a page is not a file
    text = re.sub(r"(?<=\d) (/|to) (?=[-+−]?\d)", "\u00a0\\1\u00a0", text)  # an interval stays on one line
    return re.sub(r"^((?!\s*(?:[*|>-]|\d+\.) ).*\S.*)\n(?=(?:\*|-|1\.) )", r"\1\n\n", text, flags=re.MULTILINE)


def _home(address: str) -> Path:
    """Returns the file in the repository that a page of the site comes from."""
    back = {page: name for name, page in ELSEWHERE.items()}
    return ROOT / (back.get(address) or (address if address.startswith("benchmarks/") else f"docs/{address}"))


def _address(path: Path) -> str:
    """Returns the address in the site of a file of the repository; for a folder, that of the code map."""
    name = str(path.relative_to(ROOT))
    if name == "README.md":
        return "index.md"
    if path.is_dir():
        return "where-is-what.md"
    return ELSEWHERE.get(name) or name.removeprefix("docs/")
