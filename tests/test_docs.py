"""The documentation: what it says to type works, every hook is in it, and it builds without a warning."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context, UsageError
from documents import blocks_of, carry_out, excused

import genbench
from genbench import hookspecs
from genbench.cli.main import cli

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


def test_the_reference_has_every_public_name_as_it_is_in_the_source(monkeypatch):
    monkeypatch.syspath_prepend(DOCS.parent / "tools")
    reference = importlib.import_module("reference")
    text = reference.PAGE.read_text()
    assert text == reference.page(), "docs/reference/api.md is out of date: run `python tools/reference.py`"
    headings = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")}
    assert set(genbench.__all__) - headings == reference.LEFT_OUT


def test_the_reference_says_of_a_class_what_its_source_says(monkeypatch):
    monkeypatch.syspath_prepend(DOCS.parent / "tools")
    described = importlib.import_module("reference").described
    source = (
        'SIZE = 7\n\n\nclass Thing(Base):\n    """A thing.\n\n    As::\n\n        Thing(1)\n\n    too.\n    """\n\n'
        '    size: int | None = SIZE\n    """How large."""\n    names: list[str] = field(default_factory=list)\n'
        '    rate: float = field(0.5, "train", "how fast", ge=0)\n    _own: int = 0\n\n'
        '    @property\n    def double(self) -> int:\n        """Twice."""\n        return 2\n\n'
        '    def grow(\n        self,\n        by: int = 1,  # at least\n    ) -> None:\n        """Grow."""\n\n'
        '    def _hidden(self) -> None:\n        """No."""\n'
    )
    told = described("Thing", "genbench.thing", source)
    for line in (
        "`class Thing(Base)`",
        "```python not run: a part\nThing(1)\n```",
        "| `size` | `int \\| None` | `7` | How large. |",
        "| `names` | `list[str]` | `list()` |  |",
        "| `rate` | `float` | `0.5` | how fast (train) |",
        "- `double: int`: Twice.",
        "- `grow(by: int = 1) -> None`: Grow.",
        "Of `genbench.thing`.",
    ):
        assert line in told, told
    assert "_own" not in told and "_hidden" not in told


def test_what_is_not_run_has_commands_and_options_that_exist():
    pytest.importorskip("markdown_it", reason="documents are read by markdown-it-py (extra docs)")
    found = [each for page in PAGES for each in excused(page)]
    assert len(found) > 30
    for place, (name, *words) in found:
        command = cli.get_command(Context(cli), name)
        assert command is not None, f"{place}: genbench {name}"
        try:
            command.make_parser(Context(command)).parse_args(words)
        except UsageError as error:
            raise AssertionError(f"{place}: genbench {name}: {error.message}") from None


@pytest.mark.slow
@pytest.mark.timeout(900)  # the tutorial takes two minutes on a core of its own
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
