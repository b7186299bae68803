"""Pictures of many kinds as bytes, and what every source makes of each; a stand-in for the library `datasets`."""

import io
import struct
import sys
import zlib
from types import ModuleType, SimpleNamespace

import numpy as np
from PIL import Image

LEVELS = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
RGB = Image.fromarray(LEVELS[..., :3])
GRAY, RGBA, PALETTE = RGB.convert("L"), Image.fromarray(LEVELS), RGB.quantize(16)
OPAQUE = RGB.convert("RGBA")
FIRST = tuple(map(int, LEVELS[0, 0, :3]))


def saved(picture, form, **options):
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def deep_png(colour, channels):
    """A PNG of 16 bits per channel with levels of 12 bits."""
    levels = np.random.default_rng(1).integers(0, 4096, (8, 8 * channels))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    head = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    told = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)


def deep_tiff():
    """A TIFF of 16 bits per channel in RGB, without compression."""
    levels = np.random.default_rng(1).integers(0, 4096, (8, 8, 3)).astype("<u2").tobytes()
    long, short = 4, 3
    entries = 9
    bits = 8 + 2 + 12 * entries + 4
    tags = [(256, short, 1, 8), (257, short, 1, 8), (258, short, 3, bits), (259, short, 1, 1), (262, short, 1, 2),
            (273, long, 1, bits + 6), (277, short, 1, 3), (278, short, 1, 8), (279, long, 1, len(levels))]  # fmt: skip
    told = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, entries) + told + bytes(4) + struct.pack("<HHH", 16, 16, 16) + levels


def deep_ppm():
    return b"P6 8 8 65535\n" + np.random.default_rng(1).integers(0, 4096, 192).astype(">u2").tobytes()


JPEG = saved(RGB, "JPEG", quality=95)
DEEP, CLEAR, BROKEN = "more than 8 bits", "transparency", "not a readable image"
KINDS = {
    "RGB": ("png", saved(RGB, "PNG"), RGB),
    "gray": ("png", saved(GRAY, "PNG"), GRAY),
    "black and white": ("tif", saved(GRAY.convert("1"), "TIFF"), GRAY.convert("1")),
    "BMP": ("bmp", saved(RGB, "BMP"), RGB),
    "WebP": ("webp", saved(RGB, "WEBP", lossless=True), RGB),
    "YCbCr": ("tif", saved(RGB.convert("YCbCr"), "TIFF"), RGB.convert("YCbCr")),
    "a palette": ("png", saved(PALETTE, "PNG"), PALETTE),
    "opaque RGBA": ("png", saved(OPAQUE, "PNG"), RGB),
    "a colour for transparency that no pixel has": ("png", saved(RGB, "PNG", transparency=(1, 2, 3)), RGB),
    "a photo of a phone, with a second picture": (
        "jpg", saved(RGB, "MPO", save_all=True, append_images=[GRAY.convert("RGB")], quality=95),
        Image.open(io.BytesIO(JPEG)),
    ),
    "RGBA": ("png", saved(RGBA, "PNG"), CLEAR),
    "gray and alpha": ("png", saved(RGBA.convert("LA"), "PNG"), CLEAR),
    "WebP with alpha": ("webp", saved(RGBA, "WEBP", lossless=True), CLEAR),
    "a colour for transparency": ("png", saved(RGB, "PNG", transparency=FIRST), CLEAR),
    "a level for transparency": ("png", saved(GRAY, "PNG", transparency=GRAY.getpixel((0, 0))), CLEAR),
    "a palette with transparency": ("png", saved(PALETTE, "PNG", transparency=0), CLEAR),
    "16 bits, gray": ("png", deep_png(0, 1), DEEP),
    "16 bits, gray and alpha": ("png", deep_png(4, 2), DEEP),
    "16 bits, RGB": ("png", deep_png(2, 3), DEEP),
    "16 bits, RGBA": ("png", deep_png(6, 4), DEEP),
    "16 bits, TIFF": ("tif", deep_tiff(), DEEP),
    "16 bits, PPM": ("ppm", deep_ppm(), DEEP),
    "32 bits": ("tif", saved(Image.fromarray(LEVELS[..., 0].astype(np.float32)), "TIFF"), DEEP),
    "CMYK": ("jpg", saved(RGB.convert("CMYK"), "JPEG"), "neither gray nor RGB"),
    "two frames": ("webp", saved(RGB, "WEBP", save_all=True, append_images=[GRAY.convert("RGB")]), "several images"),
    "truncated PNG": ("png", saved(RGB, "PNG")[:-60], BROKEN),
    "truncated JPEG": ("jpg", JPEG[:-60], BROKEN),
    "truncated BMP": ("bmp", saved(RGB, "BMP")[:-60], BROKEN),
    "nothing": ("png", b"", BROKEN),
    "a format that is not read": ("png", saved(RGB, "PCX"), BROKEN),
    "a program in PostScript": ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", BROKEN),
}  # fmt: skip
"""By what it is: suffix, bytes, and the picture that is meant or the reason for which it is refused."""


def wanted(picture):
    """The levels (3, 8, 8) of a picture."""
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def picture(number):
    """The bytes of a good picture, another for each number."""
    return saved(Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)), "PNG")


# A stand-in for the library `datasets`


class Rows(list):
    """Rows as the library has them: dictionaries by column, whose images are still to be decoded."""

    def __init__(self, rows, features):
        super().__init__(rows)
        self.features = features
        self.column_names = list(features)

    def select_columns(self, names):
        return Rows([{name: row[name] for name in names} for row in self], {n: self.features[n] for n in names})

    def cast_column(self, name, feature):
        if self.features[name] != "image":
            raise TypeError(f"cannot cast {self.features[name]}")
        return self


def cell(content):
    return None if content is None else {"bytes": content, "path": None}


def classes(*names):
    return SimpleNamespace(names=list(names))


def library(monkeypatch, train, test=None):
    """Make `import datasets` find one whose local folders hold these rows."""
    module = ModuleType("datasets")
    module.Image = SimpleNamespace
    module.load_dataset = lambda path, split, **_: [train, train if test is None else test]
    monkeypatch.setitem(sys.modules, "datasets", module)
