"""A page as its tests see it: elements, attributes and text, unbalanced tags being errors."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; unbalanced tags are errors."""

    def __init__(self, file: Path):
        super().__init__()
        self.elements, self.ids, self.links, self.texts, self.open = [], [], [], [], []
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == [], f"{file}: left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        assert len(names) == len(attributes), f"an attribute twice: {tag} {attributes}"
        self.elements.append((tag, names))
        self.ids += [names["id"]] if "id" in names else []
        self.links += [names[key] for key in ("href", "src") if key in names]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def shape(self):
        """What a payload must not change: the elements and the names of their attributes."""
        return [(tag, sorted(names)) for tag, names in self.elements]

    def attribute(self, name, having):
        """The attribute of each element that has another with some value."""
        return [names[name] for _, names in self.elements if names.get(having[0]) == having[1]]
