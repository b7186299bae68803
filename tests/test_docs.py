"""The documentation: what it says to type works, every hook is in it, and it builds without a warning."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks_of, carry_out

from genbench import hookspecs

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md"))
HOOKS = [name for name, hook in inspect.getmembers(hookspecs) if hasattr(hook, "genbench_spec")]


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS).with_suffix(""))


def test_a_wrong_document_is_found(tmp_path):
    pytest.importorskip("markdown_it", reason="documents are read by markdown-it-py (extra docs)")
    document = tmp_path / "page.md"
    for fault, text in {
        "exit code 1": "```sh\nfalse\n```",
        "not\n2": "```python\nprint(1 + 1)\n```\n```text\n3\n```",
        "say why": "```sh not run:\nrm\n```",
        "neither": "    indented\n",
    }.items():
        document.write_text(text)
        with pytest.raises(AssertionError, match=fault):
            carry_out(document, tmp_path)


def test_a_document_is_carried_out(tmp_path):
    pytest.importorskip("markdown_it", reason="documents are read by markdown-it-py (extra docs)")
    document = tmp_path / "page.md"
    document.write_text(
        "```python one.py\nx = 1\n```\n```python one.py\ny = 2\n```\n```python\nimport one\nprint(one.x, one.y)\n```\n"
        "```text\n1 ...\n```\n```sh not run: no such machine\nexit 1\n```\n"
    )
    assert carry_out(document, tmp_path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```" in page.read_text()], ids=name_of)
def test_what_a_page_says_works(page, tmp_path):
    pytest.importorskip("markdown_it", reason="documents are read by markdown-it-py (extra docs)")
    if "tensorboard" in page.read_text():
        pytest.importorskip("tensorboard", reason="the page needs TensorBoard (extra docs)")
    assert carry_out(page, tmp_path) or all(block.words for block in blocks_of(page))


@pytest.mark.slow
def test_the_site_has_every_hook_command_and_public_name(tmp_path):
    pytest.importorskip("sphinx", reason="the site is built by Sphinx (extra docs)")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(site)], check=True)
    hooks = (site / "reference" / "hooks.html").read_text()
    for name in HOOKS:
        heading = f'id="genbench.hookspecs.{name}"'
        assert heading in hooks, name
        for parameter in inspect.signature(getattr(hookspecs, name)).parameters:
            assert parameter in hooks.partition(heading)[2].partition("</dt>")[0], (name, parameter)
