"""Whatever is wrong with conditions on disk is one error that names the file, and leaves nothing in the cache."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import condition_folders as forms
import image_kinds
import numpy as np
import pytest
from condition_folders import CAPTIONS, SIDE, hole, levels, png, put, sample, shard
from PIL import Image

LINES, TABLE, COCO = "images/metadata.jsonl", "captions.csv", "captions_train2017.json"


@dataclass(frozen=True)
class Fault:
    """A form of condition, what is done to its files, replacements in its entry, and what the error has to say."""

    form: Callable
    change: Callable
    told: tuple[str, ...]
    entry: tuple[str, str] = ("", "")


def lines(edit):
    """A change of the lines of `metadata.jsonl`, by a function of their list."""

    def change(root):
        put(root / LINES, "\n".join(edit((root / LINES).read_text().splitlines())))

    return change


def line(number, text):
    return lines(lambda found: [*found[:number], text, *found[number + 1 :]])


def row(number, text):
    def change(root):
        found = (root / TABLE).read_text().splitlines()
        found[number] = text
        put(root / TABLE, "\n".join(found))

    return change


def coco(edit):
    def change(root):
        whole = json.loads((root / COCO).read_text())
        edit(whole)
        put(root / COCO, json.dumps(whole))

    return change


def file(name, content):
    return lambda root: put(root / name, content)


def remove(name):
    return lambda root: (root / name).unlink()


def same(root):
    """No change: the entry is at fault."""


def saved(array, form, **options):
    out = io.BytesIO()
    Image.fromarray(array).save(out, form, **options)
    return out.getvalue()


def member(*members):
    """The last shard with further members."""
    return lambda root: shard(root / "shards/0002.tar", [*sample(4), *sample(5), *members])


def samples(edit):
    """The last shard with the members of its second sample changed, by a function of (name, content)."""
    return lambda root: shard(
        root / "shards/0002.tar", [*sample(4), *(edited for each in sample(5) if (edited := edit(*each)))]
    )


def link(name, target):
    about = tarfile.TarInfo(name)
    about.type, about.linkname = tarfile.SYMTYPE, target
    return name, about


def cut(size):
    def change(root):
        whole = (root / "shards/0002.tar").read_bytes()
        (root / "shards/0002.tar").write_bytes(whole[:size])

    return change


def turned(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    put(root / "images/000.jpg", saved(levels(0), "JPEG", exif=exif))


MASK, MAP, SMALL = "images/001_mask001.png", "annotations/001.png", "LR_bicubic/X4/001x4.png"
BINARY = np.where(hole(1), 255, 0).astype(np.uint8)
LINE = '{"file_name": "001.png", "text": "two dogs"}'
COLOURS = np.random.default_rng(0).integers(0, 5, (SIDE, SIDE, 3), dtype=np.uint8)
L, T, S, C, M, A, H, X, R = (
    forms.json_lines, forms.table, forms.sidecars, forms.coco, forms.cityscapes, forms.ade, forms.lama,
    forms.low_resolution, forms.tar,
)  # fmt: skip
CLASSES = ("test_fraction = 0.34", "num_classes = 2\ntest_fraction = 0.5")
FAULTS = {
    "an image without a line": Fault(L, lines(lambda found: found[1:]), ("000.png: no caption", LINES)),
    "a line without an image": Fault(
        L, lines(lambda found: [*found, '{"file_name": "9.png", "text": "a"}']), (f"{LINES}:7: no such image (9.png)",)
    ),
    "a column that is not there": Fault(
        L, same, ("6 of 6 lines cannot be used: no column 'words': such as", f"{LINES}:1",
                  "it has file_name, text"),
        ('metadata.jsonl"', 'metadata.jsonl", column = "words"'),
    ),
    "an empty caption": Fault(
        L, line(1, '{"file_name": "001.png", "text": " "}'), (f"{LINES}:2: an empty caption",)
    ),
    "a number for a caption": Fault(
        L, line(1, '{"file_name": "001.png", "text": 3}'), (f"{LINES}:2: a caption that is no text (int)",)
    ),
    "half a character": Fault(
        L, line(1, '{"file_name": "001.png", "text": "\\ud800"}'), (f"{LINES}:2: a caption that is no text",)
    ),
    "a book for a caption": Fault(
        L, line(1, json.dumps({"file_name": "001.png", "text": "word " * 9999})), (f"{LINES}:2: too long",)
    ),
    "a line that is no JSON": Fault(L, line(1, LINE[:-3]), (f"{LINES}:2: no JSON object",)),
    "a list for a line": Fault(L, line(1, "[1, 2]"), (f"{LINES}:2: no JSON object (list",)),
    "a file name of no text": Fault(L, line(1, '{"file_name": 1, "text": "a"}'), (f"{LINES}:2: a name that is no",)),
    "Latin-1": Fault(L, file(LINES, LINE.replace("dogs", "dögs").encode("latin-1")), (LINES, "not UTF-8 at byte")),
    "a second line for an image": Fault(
        L, lines(lambda found: [*found, LINE]), (f"{LINES}:7: a second line for an image (001.png, also in 2)",)
    ),
    "an absolute file name": Fault(
        L, line(1, '{"file_name": "/etc/001.png", "text": "a"}'), (f"{LINES}:2: a path that leads elsewhere (/etc",)
    ),
    "a file name that climbs": Fault(
        L, line(1, '{"file_name": "../images/001.png", "text": "a"}'), (f"{LINES}:2: a path that leads elsewhere",)
    ),
    "another suffix in the entry": Fault(
        L, same, ("mine.toml:6 [mine]: condition.file: captions are read from .jsonl, .csv, .tsv, .json",),
        ("metadata.jsonl", "metadata.json1"),
    ),
    "another suffix on disk": Fault(
        L, lambda root: (root / LINES).rename(root / "images/metadata.json1"), (f"{LINES}: no such file",)
    ),
    "a file for test images without a folder": Fault(
        L, same, ("test_file", "test_path"), ('metadata.jsonl"', 'metadata.jsonl", test_file = "captions.csv"')
    ),
    "a table without a header": Fault(
        T, row(0, 'images/009.png,"a"'), (f"{TABLE}:1: no column 'file_name'", "images/009.png, a")
    ),
    "a table with a comma too many": Fault(
        T, row(3, "images/002.png,a dog, running"), (f"{TABLE}:4: not 2 columns (3 columns)",)
    ),
    "a quote without end": Fault(T, row(6, 'images/005.png,"a dog'), (f"{TABLE}:7", "unexpected end of data")),
    "an image without a sidecar": Fault(S, remove("images/001.txt"), ("001.png: no caption", "001.txt")),
    "a sidecar without a word": Fault(S, file("images/001.txt", "\n \n"), ("images/001.txt: an empty caption",)),
    "a sidecar in Latin-1": Fault(S, file("images/001.txt", b"caf\xe9"), ("images/001.txt: not UTF-8 (at byte 3)",)),
    "two images of one sidecar": Fault(
        S, file("images/001.jpg", saved(levels(9), "JPEG")),
        ("2 of 7 images cannot be used: no caption of its own", "001.txt is that of 2 images"),
    ),
    "an image that COCO has no caption of": Fault(
        C, coco(lambda whole: [whole["annotations"].pop(place) for place in (7, 1)]),
        (f"{COCO}: images[1]: no caption (001.png)",),
    ),
    "a caption of no image of COCO": Fault(
        C, coco(lambda whole: whole["annotations"].append({"image_id": 5, "caption": "a"})),
        (f"{COCO}: annotations[12]: a caption of no image (image_id 5)",),
    ),
    "COCO that is no JSON": Fault(C, file(COCO, '{"images": [}'), (f"{COCO}:1:13",)),
    "COCO without annotations": Fault(C, coco(lambda whole: whole.pop("annotations")), (COCO, "no list 'annotations'")),
    "an image of COCO without an id": Fault(
        C, coco(lambda whole: whole["images"][2].pop("id")), (f"{COCO}: images[2]: no id",)
    ),
    "a map as JPEG": Fault(
        A, lambda root: (root / MAP).write_bytes(saved(levels(1), "JPEG")), (f"{MAP}: a format that changes levels",)
    ),
    "a map in colours": Fault(A, file(MAP, COLOURS), (f"{MAP}: colours (of mode RGB)",)),
    "a map of another size": Fault(
        A, file(MAP, np.zeros((4, 8), np.uint8)), (f"{MAP}: another size (4x8 pixels beside an image of 8x8)",)
    ),
    "an id above the classes": Fault(
        A, file(MAP, levels(0) % 2 + 6), (f"{MAP}: ids that are no classes (6, 7; classes are 1 to 4)",)
    ),
    "255 not declared": Fault(
        M, same, ("6 of 6 images cannot be used: ids that are no classes", "TrainIds.png (255; classes are 0 to 2)"),
        (", ignore = 255", ""),
    ),
    "zero not said": Fault(
        A, same, ("6 of 6 images cannot be used: ids from 0 or from 1", "an id 4 with classes = 4", 'zero = "ignore"'),
        (', zero = "ignore"', ""),
    ),
    "an id ignored that is a class": Fault(
        A, same, ("mine.toml:6 [mine]: condition: ignore: 4 is among the ids 0 to 4",),
        ("classes = 4", "classes = 4, ignore = 4"),
    ),
    "no map": Fault(A, remove(MAP), ("images/001.jpg: no map", MAP)),
    "a map that is no picture": Fault(A, file(MAP, "nothing"), (f"{MAP}: not a readable image",)),
    "an image turned, its map not": Fault(A, turned, ("annotations/000.png: a picture or what is beside it is",)),
    "no folder of maps": Fault(A, same, ("masks: no such file or folder",), ('"annotations"', '"masks"')),
    "an image that ends otherwise": Fault(
        M, file("leftImg8bit/val/ulm/ulm.png", levels(9)), ("ulm.png: a name with another ending",)
    ),
    "a mask of gray": Fault(H, file(MASK, levels(1)), (f"{MASK}: a mask that is not black and white",)),
    "a mask in colours": Fault(
        H, file(MASK, np.stack([BINARY, BINARY, BINARY * 0], 2)), (f"{MASK}: a mask that is not black and white (col",)
    ),
    "a mask of 16 bits": Fault(
        H, file(MASK, BINARY.astype(np.uint16) * 257), (f"{MASK}: more than 8 bits per channel",)
    ),
    "a mask that is all hole": Fault(
        H, file(MASK, BINARY | 255), (f"{MASK}: a hole that is the whole image", 'hole = "black"')
    ),
    "a mask without a hole": Fault(H, file(MASK, BINARY & 0), (f"{MASK}: a mask without a hole",)),
    "no mask": Fault(H, remove(MASK), ("images/001.png: no mask", MASK)),
    "the hole's colour not said": Fault(
        H, same, ("mine.toml:6 [mine]: condition.hole: missing",), (', hole = "white"', "")
    ),
    "a third colour of a hole": Fault(H, same, ("condition.hole: Input should be 'white' or",), ("white", "red")),
    "masks that have the images' ending": Fault(
        H, same, ("mine.toml:6 [mine]: condition: suffix = '.png' without a `path`",), ("_mask001.png", ".png")
    ),
    "a small image of another factor": Fault(
        X, file(SMALL, levels(1, 4)), (f"{SMALL}: another size (4x4 pixels beside an image of 8x8)", "1/4 of")
    ),
    "no small image": Fault(X, remove(SMALL), ("images/001.png: no small image", SMALL)),
    "an image that would be resized": Fault(
        X, lambda root: (put(root / "images/001.png", levels(1, 16)), put(root / SMALL, levels(1, 4))),
        (f"{SMALL}: an image that would be resized (16x16 pixels",),
    ),
    "a damaged image beside a good mask": Fault(H, file("images/001.png", b"x"), ("images/001.png: not a readable",)),
    "two images in a sample": Fault(
        R, member(("a/005.left.png", png(levels(9)))), ("0002.tar: a/005: several images in one sample (.png and",)
    ),
    "a sample without an image": Fault(
        R, samples(lambda name, content: None if name.endswith("png") else (name, content)),
        ("0002.tar: a/005: no image in a sample (it has .txt, .json, .cls)",),
    ),
    "a sample without a caption": Fault(
        R, samples(lambda name, content: None if name.endswith("txt") else (name, content)),
        ("0002.tar: a/005: no .txt in a sample (it has .json, .cls, .png)",),
    ),
    "a truncated tar file": Fault(R, cut(5000), ("0002.tar: not a whole tar file",)),
    "a tar file cut between its members": Fault(R, cut(1024), ("0002.tar: not a whole tar file: it is truncated",)),
    "two tar files joined": Fault(
        R, lambda root: put(root / "shards/0002.tar", 2 * (root / "shards/0002.tar").read_bytes()),
        ("0002.tar: not a whole tar file: something else",),
    ),
    "no tar file": Fault(R, lambda root: put(root / "shards/0002.tar", "x" * 2000), ("0002.tar: not a whole tar",)),
    "a link in a tar file": Fault(
        R, member(link("a/006.png", "/etc/passwd")), ("0002.tar: a/006: a member that is no plain file (006.png)",)
    ),
    "a path that climbs out of a tar file": Fault(
        R, member(("../../b.png", png(levels(9)))), ("0002.tar: ../../b: a path that leads elsewhere",)
    ),
    "an absolute path in a tar file": Fault(
        R, member(("/b.png", png(levels(9)))), ("0002.tar: /b: a path that leads elsewhere (/b.png)",)
    ),
    "a class that is no number": Fault(
        R, samples(lambda name, content: (name, b"cat" if name.endswith("cls") else content)),
        ("0002.tar: a/005: a .cls that is no whole number ('cat')",), CLASSES,
    ),
    "a class beyond the classes": Fault(
        R, samples(lambda name, content: (name, b"2" if name.endswith("cls") else content)),
        ("a label beyond num_classes = 2 (label 2)",), CLASSES,
    ),
    "no column in a sample's JSON": Fault(
        R, samples(lambda name, content: (name, b'{"x": 1}' if name.endswith("json") else content)),
        ("0002.tar: a/005: no column 'caption' in .json (it has x)",), ('"text"', '"text", column = "caption"'),
    ),
    "a sample's JSON cut short": Fault(
        R, samples(lambda name, content: (name, content[:9] if name.endswith("json") else content)),
        ("0002.tar: a/005: a .json that is no JSON object",), ('"text"', '"text", column = "caption"'),
    ),
    "a kind that tar files do not have": Fault(
        R, same, ("condition: here a condition is a table with kind = hole, image and text",), ('"text"', '"map"')
    ),
    "an unknown kind": Fault(
        L, same, ("mine.toml:6 [mine]: condition: here a condition is a table with kind = hole, image, text and map",),
        ('"text"', '"texts"'),
    ),
    "a text for a condition": Fault(
        L, same, ("mine.toml:6 [mine]: condition: here a condition is a table",),
        ('{ kind = "text", file = "images/metadata.jsonl" }', '"text"'),
    ),
    "a key that is unknown": Fault(
        H, same, ("mine.toml:6 [mine]: condition.sufix: unknown key", "did you mean 'suffix'"), ("suffix", "sufix")
    ),
    "a key of another kind": Fault(
        A, same, ("mine.toml:6 [mine]: condition.factor: unknown key",), ("classes = 4", "classes = 4, factor = 2")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_one_error_that_names_the_file(genbench, tmp_path, monkeypatch, name):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    fault = FAULTS[name]
    text = fault.form(tmp_path)
    fault.change(tmp_path)
    old, new = fault.entry
    assert old in text
    text = text.replace(old, new) if old else text
    put(tmp_path / "mine.toml", f'{text}extractors = ["digits-classifier-v1"]\n')
    result = genbench("plan", "-m", "gaussian", "-d", "mine", "--datasets", "mine.toml", "--budget", "1steps")
    assert result.code == 2, result.err
    assert result.err.count("error[bad-input]") == 1 and "Traceback" not in result.err, result.err
    for told in fault.told:
        assert told in result.err, result.err
    assert not list((tmp_path / "cache").rglob("*.npy")) and not list((tmp_path / "cache").rglob(".genbench_tmp_*"))


def test_there_are_thirty_of_them():
    assert len(FAULTS) >= 30 and len(set(CAPTIONS)) == len(CAPTIONS)


def test_many_are_counted_together(genbench, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    text = forms.lama(tmp_path)
    for number in (0, 1, 2, 5):
        put(tmp_path / f"images/{number:03}_mask001.png", levels(number))
    (tmp_path / "images/003_mask001.png").unlink()
    put(tmp_path / "images/004.png", b"x")
    put(tmp_path / "mine.toml", f'{text}extractors = ["digits-classifier-v1"]\n')
    result = genbench("plan", "-m", "gaussian", "-d", "mine", "--datasets", "mine.toml", "--budget", "1steps")
    assert result.code == 2
    for told in (
        "6 of 6 images cannot be used", "not black and white: 4 images", "000_mask001.png (",
        "003.png: no mask", "004.png: not a readable image",
    ):  # fmt: skip
        assert told in result.err, result.err


def test_a_cell_of_the_hub_that_cannot_be_used(tmp_path, monkeypatch):
    from genbench.data.entries import make_entry
    from genbench.data.preparation import prepare
    from genbench.support.errors import BadInput

    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    pictures = [image_kinds.cell(png(levels(number))) for number in range(3)]
    masks = [image_kinds.cell(png(BINARY)), None, image_kinds.cell(png(levels(1)))]
    texts = ["a cat", "", None]
    for kind, keys, cells, told in (
        ("hole", {"hole": "white"}, masks, ("row 1, about (empty)", "row 2, about (55 levels)")),
        (
            "text",
            {},
            texts,
            ("(train), row 1 (no word in it)", "(train), row 2 (NoneType)"),
        ),
    ):
        rows = [{"image": picture, "about": each} for picture, each in zip(pictures, cells)]
        features = {"image": "image", "about": "string" if kind == "text" else "image"}
        image_kinds.library(monkeypatch, image_kinds.Rows(rows, features))
        table = {"source": "huggingface", "path": "hub", "shape": [1, 8, 8]}
        entry = make_entry(
            "mine", {**table, "condition": {"kind": kind, "column": "about", **keys}}, tmp_path, "d.toml"
        )
        with pytest.raises(BadInput, match="4 of 6 images cannot be used") as error:
            prepare(entry, tmp_path, offline=True)
        assert all(each in error.value.message for each in told), error.value.message
