"""Folders and arrays that a datasets file names."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from bad_input.case import SMALL, Case, Content, encrypted, npy, npz, pictures, png

FOLDER = "[mine]\nsource = 'folder'\nshape = [1, 8, 8]\npath = 'x'\ntest_fraction = 0.5\n"
ARRAY = "[mine]\nsource = 'array'\nshape = [1, 8, 8]\npath = 'a.npy'\ntest_fraction = 0.5\n"
IMAGES = np.arange(20 * 64, dtype=np.uint8).reshape(20, 1, 8, 8)


def case(toml: str, files: dict[str, Content], *texts: str, code: int = 2, **words: str) -> Case:
    asked = f"run -m gaussian -d mine --datasets d.toml {SMALL}"
    return Case(asked, code, texts, {"d.toml": toml, **files}, **words)


def beside_good(name: str, content: Content, *texts: str, **words) -> Case:
    return case(FOLDER, {**pictures("x"), f"x/{name}": content}, f"{name}", *texts, **words)


def array(content: Content, *texts: str, more: str = "", name: str = "a.npy") -> Case:
    return case(ARRAY.replace("a.npy", name) + more, {name: content}, name, *texts)


def noise() -> bytes:
    """A picture of random levels, which does not pack well."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(out, "PNG")
    return out.getvalue()


def frames(form: str) -> bytes:
    out = io.BytesIO()
    first, second = (Image.new("L", (8, 8), level) for level in (0, 200))
    first.save(out, form, save_all=True, append_images=[second])
    return out.getvalue()


def huge_png() -> bytes:
    """A PNG that says it is 60,000 pixels square."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def bomb() -> bytes:
    """A .npz of a few hundred KiB that unpacks to more than 256 MiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (300 * 2**14, 1, 8, 8)}
        )
        for _ in range(300):
            member.write(bytes(2**20))
    return out.getvalue()


def many_members() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for index in range(2000):
            archive.writestr(f"{index}.npy", b"")
    return out.getvalue()


def lying_header(shape: tuple[int, ...]) -> bytes:
    """A .npy header of a shape that the file does not hold."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue() + bytes(64)


def lying_member() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("images.npy", lying_header((10**15, 1, 8, 8)))
    return out.getvalue()


CLASSES = FOLDER + "layout = 'classes'\n"
CASES = {
    "an empty folder": case(FOLDER, {"x": None}, "x", "no images", ".png"),
    "only class folders": case(FOLDER, {**pictures("x/a"), **pictures("x/b")}, "x", "2 class folders", 'layout = "classes"'),
    "class folders with a stray image": case(CLASSES, {**pictures("x/a"), "x/s.png": png()}, "s.png", "beside the class"),
    "a stray class folder among images": case(FOLDER, {**pictures("x"), **pictures("x/a")}, "x/a", "folder of images", "layout"),
    "classes without folders": case(CLASSES, {"x": None}, "x", "no images"),
    "other classes than declared": case(
        CLASSES + "num_classes = 3\n", {**pictures("x/a"), **pictures("x/b")}, "2 class folders", "num_classes = 3"
    ),
    "an empty class": case(CLASSES + "num_classes = 2\n", {**pictures("x/a"), "x/b": None}, "x/b", "no images"),
    "labels from a flat folder": case(FOLDER + "num_classes = 2\n", pictures("x"), "num_classes = 2", "layout"),
    "images of other kinds": case(FOLDER, {"x/a.heic": b"1", "x/b.heic": b"2", "x/c.txt": "3"}, "no images", "2 .heic", "1 .txt"),
    "one image": case(FOLDER, pictures("x", 1), "[mine]", "at least 2"),
    "a text named png": beside_good("bad.png", "no image", "not a readable image"),
    "an empty file": beside_good("bad.png", b"", "not a readable image"),
    "a truncated image": beside_good("bad.png", noise()[:80], "not a readable image"),
    "a damaged image": beside_good("bad.png", noise()[:45] + b"\xff" * 8 + noise()[53:], "not a readable image"),
    "16 bits a pixel": beside_good("bad.png", png("I;16"), "I;16", "8-bit"),
    "32 bits a pixel": beside_good("bad.tif", png("F", form="TIFF"), "mode F", "8-bit"),
    "transparency": beside_good("bad.png", png("RGBA"), "RGBA", "transparency"),
    "a palette with transparency": beside_good("bad.png", png("P", transparency=0), "mode P", "transparency"),
    "CMYK": beside_good("bad.jpg", png("CMYK", form="JPEG"), "CMYK"),
    "an animated GIF": beside_good("bad.gif", frames("GIF"), "2 frames"),
    "an animated PNG": beside_good("bad.png", frames("PNG"), "2 frames"),
    "pages of a TIFF": beside_good("bad.tif", frames("TIFF"), "2 frames"),
    "a decompression bomb": beside_good("bad.png", huge_png(), "3600000000 pixels", "limit"),
    "a folder named like an image": beside_good("bad.png", None, "not a readable image"),
    "a link to nowhere": beside_good("bad.png", lambda path: path.symlink_to("nowhere"), "not a readable image"),
    "an unreadable image": beside_good("bad.png", png(), "Permission denied", code=4, denied="bad.png"),
    "a name with a line end": case(FOLDER, {**pictures("x"), "x/a\nb.png": "no"}, r"a\nb.png", "not a readable image"),
    "a name that is not UTF-8": case(FOLDER, {**pictures("x"), "x/a\udcff.png": "no"}, r"a\udcff.png"),
    "a name of 255 bytes": case(FOLDER, {**pictures("x"), f"x/{'a' * 251}.png": "no"}, "a" * 251),
    "a crop larger than an image": case(FOLDER + "crop = 20\n", pictures("x"), "0.png", "crop = 20", "8x8"),
    "floats": array(IMAGES / 255, "float64", "uint8"),
    "floats with NaN": array(np.full((20, 8, 8), np.nan), "float64", "uint8"),
    "whole numbers of 64 bits": array(IMAGES.astype(np.int64), "int64", "uint8"),
    "another size": array(np.zeros((20, 1, 16, 16), np.uint8), "(1, 16, 16)", "(1, 8, 8)"),
    "one image as an array": array(IMAGES[0, 0], "(8, 8)", "N x C x H x W"),
    "no axes": array(np.array(3, np.uint8), "()"),
    "objects": array(np.array([{}], dtype=object), "pickled objects"),
    "a pickle": array(b"\x80\x04cos\nsystem\n(S'touch planted'\ntR.", "pickled objects"),
    "no array": array("text", "not a .npy or .npz"),
    "nothing": array(b"", "not a .npy or .npz"),
    "an array cut short": array(npy(IMAGES)[:-9], "truncated"),
    "an array that says it is larger": array(lying_header((10**15, 1, 8, 8)), "truncated"),
    "an archive without images": array(npz(pictures=IMAGES), "images", "pictures", name="a.npz"),
    "an archive cut short": array(npz(images=IMAGES)[:300], "truncated", name="a.npz"),
    "an archive of objects": array(npz(images=np.array([{}, 1], dtype=object)), "pickled objects", name="a.npz"),
    "an encrypted archive": array(
        encrypted(npy(IMAGES)), "images.npy is encrypted", "without a password", name="a.npz"
    ),
    "an archive without labels": array(npz(images=IMAGES), "num_classes = 2", name="a.npz", more="num_classes = 2\n"),
    "an archive with too few labels": array(
        npz(images=IMAGES, labels=np.zeros(3, int)), "one label per image", name="a.npz", more="num_classes = 2\n"
    ),
    "labels that are no whole numbers": array(
        npz(images=IMAGES, labels=np.full(20, 0.5)), "float64", name="a.npz", more="num_classes = 2\n"
    ),
    "labels beyond the classes": case(
        ARRAY.replace("a.npy", "a.npz") + "num_classes = 2\n", {"a.npz": npz(images=IMAGES, labels=np.arange(20) % 4)},
        "[mine]", "label 2", "num_classes = 2",
    ),
    "an archive that unpacks to too much": array(bomb(), "images.npy", "ratio", name="a.npz"),
    "an archive of 2,000 members": array(many_members(), "2,000 members", name="a.npz"),
    "an archive that says it is larger": array(lying_member(), "truncated", name="a.npz"),
    "a folder for an array": case(ARRAY, {"a.npy": None}, "a.npy", "a folder"),
    "an unreadable array": case(ARRAY, {"a.npy": IMAGES}, "a.npy", "Permission denied", code=4, denied="a.npy"),
}  # fmt: skip
