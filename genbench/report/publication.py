"""What an author adds to a report: its title, who made it, where more is, and an introduction in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from genbench.report.links import Links
from genbench.support.denials import denial
from genbench.support.errors import BadInput, CorruptData, first_line
from genbench.support.paths import inside
from genbench.support.store import put
from genbench.support.text import printable
from genbench.support.user_text import read_user_text

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

ELSEWHERE = re.compile(r"(?:https?://|mailto:)\S", re.I)
RELATIVE = re.compile(r"(?![/\\])[^:/?#]*(?:[/?#]|$)")
"""An address within a report, or beside it: without a scheme, a host or a root."""
HTTP = re.compile("https?:|//", re.I)
LINE_END = re.compile("\r\n?")
"""Of an editor on Windows, or of an old one."""
FORMATS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "WEBP": ".webp"}
"""The pictures that an introduction may show, and their suffix in the report."""
MOST_BYTES = 5 * 2**20
"""Of one picture."""
FOLDER = "about"
"""Where these pictures are in the report."""
PLAIN = {"html": False, "xhtmlOut": False}
"""Raw HTML is text like any other; elements are those of HTML."""


@dataclass(frozen=True)
class Introduction:
    """Markdown that was found fit to be shown; `pictures` are the content and path in the report of each image."""

    text: str
    pictures: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def write_pictures(self, folder: Path) -> None:
        for path, content in self.pictures.values():
            put(folder / path, content)

    def html(self, links: Links, here: str) -> Markup:
        """The introduction on a page whose own heading is above it: a first heading is one of the second level."""
        tokens = _parser().parse(self.text)
        for _, token in _walked(tokens):
            token.attrs.pop("style", None)  # which the pages' policy forbids
            if token.type == "image":
                token.attrs["src"] = links.file(here, self.pictures[str(token.attrs["src"])][0])
            elif token.type == "link_open":
                token.attrs["href"] = _target(str(token.attrs["href"]), links, here)
            elif token.type.startswith("heading_"):
                token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        return Markup(_parser().renderer.render(tokens, _parser().options, {}))  # noqa: S704  raw HTML is escaped


@dataclass(frozen=True)
class Publication:
    """A title, authors, addresses that begin with http(s) or mailto, and an introduction; each may be left out."""

    title: str = ""
    authors: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    introduction: Introduction | None = None


def publication(title: str | None, authors: Iterable[str], about: Path | None, links: Iterable[str]) -> Publication:
    """The publication of these words and of the Markdown file `about`.

    Raises BadInput for empty words, other links, and a file that is no such text; EnvironmentProblem if it may not be
    read.
    """
    links = tuple(links)
    for link in links:
        if not ELSEWHERE.match(link):
            raise BadInput(f"--link {link}: no address", "begin it with https://, http:// or mailto:")
    return Publication(
        "" if title is None else _words("--title", title), tuple(_words("--author", author) for author in authors),
        links, None if about is None else introduction(about),
    )  # fmt: skip


def _words(option: str, text: str) -> str:
    found = " ".join(text.split())
    if not found:
        raise BadInput(f"{option}: empty", f"give it some words, or leave {option} out")
    return found


def introduction(path: Path) -> Introduction:
    """The introduction in a Markdown file, with the pictures that lie beside it. Raises as `publication`."""
    text = printable(LINE_END.sub("\n", read_user_text(path, "introduction", "Markdown")), "\n\t\xa0")
    pictures: dict[str, tuple[str, bytes]] = {}
    for line, token in _walked(_parser().parse(text)):
        where = f"{path}:{line}"
        if token.type == "image" and (source := str(token.attrs["src"])) not in pictures:
            suffix, content = _picture(path.parent, source, where)
            pictures[source] = f"{FOLDER}/{len(pictures) + 1}{suffix}", content
        if token.type == "link_open" and not _is_allowed(href := str(token.attrs["href"])):
            raise BadInput(
                f"{where}: the link {href}", "link to http://, https:// or mailto:, or to a page of this report"
            )
    return Introduction(text, pictures)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", PLAIN).enable("table")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # each link is looked at, and refused by name
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]  # a file is found by its own name
    return parser


def _walked(tokens: Iterable[Token], line: int = 1) -> Iterator[tuple[int, Token]]:
    """Every token, also within others, with the line that its block begins in."""
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        yield line, token
        yield from _walked(token.children or (), line)


def _is_allowed(url: str) -> bool:
    return bool(ELSEWHERE.match(url) or RELATIVE.match(url))


def _target(url: str, links: Links, here: str) -> str:
    """Where a link leads from the page `here`: to a page of the report, wherever that is, or where it says."""
    page, _, anchor = url.partition("#")
    if not ELSEWHERE.match(url) and page.endswith(".html"):
        return links.page(here, page.removesuffix(".html"), anchor) or url
    return url


def _picture(folder: Path, source: str, where: str) -> tuple[str, bytes]:
    """Suffix and content of a picture in the folder of the text. Raises BadInput if it cannot be shown."""
    from PIL import Image, UnidentifiedImageError

    if HTTP.match(source):
        raise BadInput(
            f"{where}: the picture {source}", "save it beside the text: a page of a report asks nothing of the network"
        )
    kinds = ", ".join(FORMATS)
    try:
        file = inside(folder, source)
        if file.is_fifo():
            raise FileNotFoundError(source)
        content = file.read_bytes()
        if len(content) > MOST_BYTES:
            raise BadInput(f"{where}: the picture {source} has more than {MOST_BYTES // 2**20} MiB", "make it smaller")
        with Image.open(file, formats=list(FORMATS)) as image:
            return FORMATS[image.format or ""], content
    except CorruptData:
        raise BadInput(f"{where}: the picture {source} is not below {folder}", "save it beside the text") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise BadInput(f"{where}: no picture {source}", "correct its path, which begins beside the text") from None
    except UnidentifiedImageError:
        raise BadInput(f"{where}: {source} is no picture that a report shows", f"save it as {kinds}") from None
    except (ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{where}: the picture {source}: {first_line(error)}", "make it smaller") from None
    except OSError as error:
        raise denial(error) or error from error
