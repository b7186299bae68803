"""Markdown files as something to be carried out: files are written, commands run, outputs compared.

A fenced block says by the words after its fence what it is:

    ```python FILE     text that a reader types into a file: blocks of one file follow one another in it
    ```python          a script
    ```sh              commands
    ```text            what the script or the commands before it print, with `...` for what may differ
    ```sh not run: WHY    what cannot be run everywhere
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMANDS = {"python": [sys.executable, "-"], "sh": ["bash", "-euo", "pipefail"]}
EXCUSE = "not run:"
SECONDS = re.compile(r"--budget \d+s\b")
"""Budgets in seconds, which are cut to two: what is tried is that the words work."""
FEW = "genbench run --samples 100 --likelihood-images 20 "
"""How `genbench run` begins, likewise; what a page says of samples comes later, and is what counts."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words behind that, its text, and `FILE:LINE`."""

    language: str
    words: str
    text: str
    place: str


def blocks_of(document: Path) -> list[Block]:
    """Every block of code, in order; those of the page's own directives (`{toctree}`) are none."""
    from markdown_it import MarkdownIt

    found = []
    for token in MarkdownIt().parse(document.read_text()):
        if token.type in ("fence", "code_block") and not token.info.startswith("{"):
            language, _, words = token.info.strip().partition(" ")
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(language, words.strip(), token.content, f"{document.name}:{line}"))
    return found


def excused(document: Path) -> list[tuple[str, list[str]]]:
    """The `genbench` commands of the blocks that are not run: `FILE:LINE` of the block, and the words."""
    return [
        (block.place, words[words.index("genbench") + 1 :])
        for block in blocks_of(document)
        if block.language == "sh" and block.words.startswith(EXCUSE)
        for line in block.text.replace("\\\n", " ").splitlines()
        if "genbench" in (words := shlex.split(line, comments=True))
    ]


def carry_out(document: Path, folder: Path) -> int:
    """Do in `folder` what the document says, and count the blocks that ran. Raises AssertionError at a fault."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    printed, ran = "", 0
    for block in blocks_of(document):
        if block.words.startswith(EXCUSE):
            assert block.words.removeprefix(EXCUSE).strip(), f"{block.place}: say why it is not run"
        elif block.language == "text":
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(block.text, printed, options), f"{block.place}: not\n{printed}"
        elif block.words:
            with (folder / block.words).open("a") as file:
                file.write(block.text)
        else:
            assert block.language in COMMANDS, f"{block.place}: {block.language!r} is neither a file nor can it be run"
            text = SECONDS.sub("--budget 2s", block.text).replace("genbench run ", FEW)
            done = subprocess.run(
                COMMANDS[block.language], input=text, cwd=folder, env=environment, capture_output=True, text=True
            )
            assert not done.returncode, f"{block.place}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            printed, ran = done.stdout, ran + 1
    return ran
