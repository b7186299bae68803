"""Image files in folders: which there are, unopened, in which classes, and what lies beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genbench.records.class_names import in_order, spelt
from genbench.support.denials import denial
from genbench.support.errors import BadInput

IMAGE_SUFFIXES = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".webp", ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip
FOREIGN_SUFFIXES = {
    ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".svg", ".eps", ".psd", ".xcf", ".tga", ".pcx", ".exr", ".hdr", ".pfm",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".dcm", ".ico",
}  # fmt: skip
"""Of pictures in formats that are not read."""
PLAIN_SUFFIXES = {
    ".txt", ".caption", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".md", ".yaml", ".yml", ".toml", ".html", ".py",
    ".npy", ".npz", ".zip",
}  # fmt: skip
"""Of files that are no pictures, which need not be opened to know: there may be a caption for every image."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
"""How files of the formats that are read begin; of three others later bytes tell."""
CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "lost+found"}


@dataclass
class Listing:
    """The names in one folder, sorted by what they are: hidden files and clutter are not among them."""

    folder: Path
    images: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """Raises EnvironmentProblem if the folder may not be read."""
        found = cls(folder)
        with _permitted(folder):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if (kind := found._kind(entry)) is not None:
                    kind.append(entry.name)
        return found

    def _kind(self, entry: os.DirEntry[str]) -> list[str] | None:
        name, suffix = entry.name, Path(entry.name).suffix.lower()
        if name in CLUTTER or name.startswith("._"):
            return None
        if suffix in IMAGE_SUFFIXES:
            return self.images
        if name.startswith("."):
            return None
        if _is(entry.is_dir):
            return self.folders
        if suffix in FOREIGN_SUFFIXES:
            return self.foreign
        return self.images if suffix not in PLAIN_SUFFIXES and _begins_like_image(entry) else self.others

    def below(self, seen: frozenset[str] = frozenset()) -> Iterator[Path]:
        """The pictures in its subfolders, however deep; links are followed, in circles once."""
        seen |= {os.path.realpath(self.folder)}
        for name in self.folders:
            if os.path.realpath(self.folder / name) not in seen:
                inner = Listing.of(self.folder / name)
                yield from (inner.folder / each for each in (*inner.images, *inner.foreign))
                yield from inner.below(seen)

    def only(self) -> str:
        """What it has instead of images, for a message."""
        others = [*self.foreign, *self.others]
        return f", but {by_suffix(others)}" if others else ""


@dataclass(frozen=True)
class Files:
    """Image files by their paths below a folder, unopened, and their classes (N,), -1 if they have none.

    `classes` are the names of these by label; `others` the files that are left out since they are no images.
    """

    folder: Path
    names: list[str]
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know about what was left out, one clause each."""
        if not self.others:
            return ()
        such = f"such as {self.others[0]}" if len(self.others) > 1 else self.others[0]
        files = f"{len(self.others):,} file{'s' * (len(self.others) > 1)}"
        return (f"left out {files} in {self.folder.name} without an image: {by_suffix(self.others)}, {such}",)


def flat_files(folder: Path) -> Files:
    """The images of a folder without classes. Raises BadInput if there are none, or some that would be left out."""
    found = Listing.of(folder)
    deep = list(found.below())
    if deep and not found.images:
        classes = f"{len({path.relative_to(folder).parts[0] for path in deep})} class folders"
        raise BadInput(f"{folder}: {classes} and no images beside them", 'set layout = "classes"')
    if not found.images:
        raise _no_images(found)
    if deep:
        raise BadInput(
            f"{deep[0].parent}: a folder of images among images ({len(deep):,} images in such folders)",
            'move either away, or set layout = "classes"',
        )
    _check_formats([found])
    return Files(folder, found.images, np.full(len(found.images), -1), (), tuple(found.others))


def class_folders(folder: Path) -> dict[str, Path]:
    """The class folders by the names of their classes, in the order of their labels; no image may lie beside them."""
    found = Listing.of(folder)
    if stray := [*found.images, *found.foreign]:
        raise BadInput(
            f"{folder / stray[0]}: an image beside the class folders ({len(stray):,} in all)",
            "move it into a class, or remove it",
        )
    named = {spelt(name): folder / name for name in found.folders}
    if len(named) < len(found.folders):
        raise BadInput(f"{folder}: two class folders whose names look the same", "rename one")
    return {name: named[name] for name in in_order(named)}


def class_files(folder: Path, labelled: Sequence[tuple[int, Path]], classes: tuple[str, ...] = ()) -> Files:
    """The images of class folders in `folder`, given with their labels. Raises BadInput as `flat_files`."""
    found = [Listing.of(sub) for _, sub in labelled]
    deep = [path for each in found for path in each.below()]
    for each in found:
        if not each.images and not any(path.is_relative_to(each.folder) for path in deep):
            raise _no_images(each, "fill the class, or remove its folder")
    if deep:
        raise BadInput(
            f"{deep[0].parent}: a folder of images in a class folder ({len(deep):,} images in such folders)",
            "move them up into their class, or away",
        )
    _check_formats(found)
    names = [f"{each.folder.name}/{name}" for each in found for name in each.images]
    labels = np.repeat([label for label, _ in labelled], [len(each.images) for each in found]).astype(np.int64)
    others = [f"{each.folder.name}/{name}" for each in found for name in each.others]
    return Files(folder, names, labels, classes, (*Listing.of(folder).others, *others))


def by_suffix(names: Iterable[str]) -> str:
    """How many files of which kinds, the most frequent first."""
    counted = Counter(Path(name).suffix.lower() or "without a suffix" for name in names)
    return ", ".join(f"{count} {suffix}" for suffix, count in counted.most_common(5))


def _no_images(found: Listing, hint: str = "") -> BadInput:
    looked = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}, and for what begins like one"
    return BadInput(f"{found.folder}: no images{found.only()}", hint or looked)


def _check_formats(found: Iterable[Listing]) -> None:
    foreign = [each.folder / name for each in found for name in each.foreign]
    if foreign:
        many = f"{len(foreign):,} picture{'s' * (len(foreign) > 1)} in a format that is not read"
        raise BadInput(
            f"{foreign[0]}: {many} ({by_suffix(map(str, foreign))})", "convert to PNG, or move them out of the folder"
        )


def _begins_like_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file whose suffix says nothing is an image by its first bytes."""
    if not _is(entry.is_file):
        return False
    with Path(entry.path).open("rb") as file:
        start = file.read(12)
    bitmap, webp = start[:2] == b"BM" and start[6:10] == bytes(4), start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return start.startswith(SIGNATURES) or bitmap or webp or start[4:] == b"ftypavif"


def _is(kind: Callable[[], bool]) -> bool:
    """What a directory entry is, which a link in a circle is not."""
    try:
        return kind()
    except PermissionError:
        raise
    except OSError:
        return False


@contextmanager
def _permitted(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise denial(error) or error from error
    except NotADirectoryError as error:
        raise BadInput(f"{folder}: not a folder", "give a folder of images") from error
