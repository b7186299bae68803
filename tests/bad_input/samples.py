"""Samples made elsewhere, for `genbench evaluate`."""

import pickle

import numpy as np
from PIL import Image

from bad_input.case import Case, Content, encrypted, npy, npz, pictures, png
from bad_input.images import noise

IMAGES = np.arange(20 * 64, dtype=np.int64).reshape(20, 1, 8, 8).astype(np.uint8)
LABELS = np.arange(20) % 10


def array(content: Content, *texts: str, words: str = "", name: str = "x.npy") -> Case:
    return Case(f"evaluate {name} -d digits {words}", 2, (name, *texts), {name: content})


def folder(content: Content, *texts: str, words: str = "", name: str = "bad.png") -> Case:
    return Case(f"evaluate x -d digits {words}", 2, texts, {**pictures("x"), f"x/{name}": content})


NESTED = {**pictures("x/cats"), **pictures("x/1")}
CASES = {
    "missing file": Case("evaluate nowhere.npy -d digits", 2, ("nowhere.npy", "no such file")),
    "missing runs": Case("evaluate rnus --extractor digits-classifier-v1", 2, ("rnus", "no such file")),
    "a run that has not ended": Case("evaluate x --extractor digits-classifier-v1", 2, ("x", "not ended", "again"), {"x/job.json": "{}"}),
    "no dataset": Case("evaluate x.npy", 2, "-d DATASET", {"x.npy": IMAGES}),
    "unknown dataset": Case("evaluate x.npy -d digit", 2, "did you mean 'digits'", {"x.npy": IMAGES}),
    "unknown extractor": Case(
        "evaluate x.npy -d digits --extractor inception", 2, ("inception", "did you mean"), {"x.npy": IMAGES}
    ),
    "unknown kind of file": Case("evaluate x.txt -d digits", 2, ("x.txt", "unknown kind"), {"x.txt": "x"}),
    "an empty folder": Case("evaluate x -d digits", 2, "no images", {"x": None}),
    "class folders without labels asked for": Case("evaluate x -d digits", 2, "--conditional", NESTED),
    "class folders that are no classes": Case("evaluate x -d digits --conditional", 2, ("cats", "--conditional", "0 to 9"), NESTED),
    "a text named png": folder("no image", "bad.png"),
    "a truncated image": folder(noise()[:80], "bad.png"),
    "an image of another size": folder(png("L", (9, 8)), "8x9 pixels", "never resized"),
    "a colour image": folder(png("RGB"), "bad.png", "RGB", "gray"),
    "a 16-bit image": folder(Image.new("I;16", (8, 8)), "I;16"),
    "a transparent image": folder(png("LA"), "bad.png", "LA"),
    "a range for image files": folder(png(), "--range", words="--range 0,1"),
    "floats without a range": array(IMAGES / 255, "--range 0,1"),
    "floats with NaN": array(np.where(IMAGES == 0, np.nan, IMAGES / 255), "image 0", "nan", words="--range 0,1"),
    "floats out of range": array(IMAGES / 128, "image 2", words="--range 0,1"),
    "infinite floats": array(np.full((3, 8, 8), np.inf), "image 0", "inf", words="--range=-1,1"),
    "a range for levels": array(IMAGES, "uint8", words="--range 0,1"),
    "unknown range": Case("evaluate x.npy -d digits --range 0,2", 2, "0,2", {"x.npy": IMAGES}),
    "whole numbers of 64 bits": array(IMAGES.astype(np.int64), "int64"),
    "complex numbers": array(IMAGES.astype(complex), "complex128"),
    "words": array(np.array(["a", "b"]), "shape (2,)"),
    "a scalar": array(np.array(3), "shape ()"),
    "another size": array(np.zeros((9, 1, 16, 16), np.uint8), "(1, 16, 16)"),
    "another number of channels": array(np.zeros((9, 3, 8, 8), np.uint8), "(3, 8, 8)"),
    "two axes": array(IMAGES.reshape(20, -1), "shape (20, 64)"),
    "five axes": array(IMAGES[None], "shape (1, 20, 1, 8, 8)"),
    "one image": array(IMAGES[:1], "1 image"),
    "no image": array(IMAGES[:0], "0 image"),
    "an array of objects": array(np.array([{"a": 1}], dtype=object), "pickled objects"),
    "an archive of objects": array(npz(images=np.array([None, 1], dtype=object)), "pickled objects", name="x.npz"),
    "a pickle": array(pickle.dumps(IMAGES), "pickled objects"),
    "a text": array("no array", "not a .npy"),
    "an empty file": array(b"", "not a .npy"),
    "a file cut short": array(npy(IMAGES)[:-100], "truncated"),
    "an archive cut short": array(npz(images=IMAGES)[:300], "truncated", name="x.npz"),
    "an archive without images": array(npz(pictures=IMAGES), "pictures", name="x.npz"),
    "an encrypted archive": array(
        encrypted(npy(IMAGES)), "images.npy is encrypted", "without a password", name="x.npz"
    ),
    "no labels": array(npz(images=IMAGES), "no labels", words="--conditional", name="x.npz"),
    "too few labels": array(npz(images=IMAGES, labels=LABELS[:5]), "(5,)", words="--conditional", name="x.npz"),
    "labels that are no classes": array(
        npz(images=IMAGES, labels=LABELS + 0.5), "float64", words="--conditional", name="x.npz"
    ),
    "a label out of range": array(
        npz(images=IMAGES, labels=np.where(LABELS == 7, 10, LABELS)), "label 10 of image 7", "0 to 9",
        words="--conditional", name="x.npz",
    ),
    "labels of unconditional samples": Case(
        "evaluate x.npy -d digits --labels x.npy", 2, ("--labels", "--conditional"), {"x.npy": IMAGES}
    ),
    "missing labels": Case(
        "evaluate x.npy -d digits --conditional --labels nowhere.npy", 2, "nowhere.npy", {"x.npy": IMAGES}
    ),
    "more samples than there are": Case("evaluate x.npy -d digits --samples 21", 2, "at most 20", {"x.npy": IMAGES}),
    "one sample asked for": Case("evaluate x.npy -d digits --samples 1", 2, "--samples", {"x.npy": IMAGES}),
    "the name of a reference row": Case("evaluate x.npy -d digits --name NOISE", 2, "reference row", {"x.npy": IMAGES}),
    "out is a file": Case("evaluate x.npy -d digits --out x.npy", 2, "is a file", {"x.npy": IMAGES}),
    "unknown device": Case("evaluate x.npy -d digits --device gpu", 2, "cuda:0", {"x.npy": IMAGES}),
    "an unreadable file": Case(
        "evaluate x.npy -d digits", 4, ("x.npy", "Permission denied"), {"x.npy": IMAGES}, denied="x.npy"
    ),
}  # fmt: skip
