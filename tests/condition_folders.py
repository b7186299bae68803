"""Small inputs of every form in which people have conditions on disk: six images each, the last two for testing."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

SIDE, COUNT, TEST = 8, 6, 2
CAPTIONS = ("a red cat", "two dogs", "a dog, running", "a cat", "one red dog", "two cats")
HEAD = "[mine]\nshape = [1, 8, 8]\ntest_fraction = 0.34\n"
FOLDER = f'{HEAD}source = "folder"\npath = "images"\n'


def levels(number, side=SIDE):
    """The image of this number, uint8 (side, side)."""
    return np.random.default_rng(number).integers(16, 256, (side, side), dtype=np.uint8)


def ids(number, highest, side=SIDE):
    """A map with ids from 0 to `highest`, which all occur."""
    drawn = np.random.default_rng(100 + number).integers(0, highest + 1, (side, side))
    drawn.flat[: highest + 1] = np.arange(highest + 1)
    return drawn.astype(np.uint8)


def hole(number, side=SIDE):
    """Where an image has a hole, bool: a square."""
    found = np.zeros((side, side), bool)
    found[number % 4 : number % 4 + 3, 2:5] = True
    return found


def put(path, content):
    """Write a picture, text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)


def images(root, folder="images", name="{:03}.png", side=SIDE):
    for number in range(COUNT):
        put(root / folder / name.format(number), levels(number, side))


def json_lines(root):
    images(root)
    lines = [{"file_name": f"{number:03}.png", "text": text} for number, text in enumerate(CAPTIONS)]
    put(root / "images/metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return f'{FOLDER}condition = {{ kind = "text", file = "images/metadata.jsonl" }}\n'


def table(root):
    """A table beside the folder, whose names are relative to itself."""
    images(root)
    lines = ["file_name,caption", *(f'images/{n:03}.png,"{text}"' for n, text in enumerate(CAPTIONS))]
    put(root / "captions.csv", "\n".join(lines) + "\n")
    return f'{FOLDER}condition = {{ kind = "text", file = "captions.csv", column = "caption" }}\n'


def sidecars(root):
    images(root)
    for number, text in enumerate(CAPTIONS):
        put(root / f"images/{number:03}.txt", f"\n{text}\nthe same, said again\n")
    return f'{FOLDER}condition = {{ kind = "text", suffix = ".txt" }}\n'


def coco(root):
    images(root)
    known = [{"id": 7 * n, "file_name": f"{n:03}.png"} for n in range(COUNT)]
    said = [{"image_id": 7 * n, "caption": text} for n, text in enumerate(CAPTIONS)]
    put(root / "captions_train2017.json", json.dumps({"info": {}, "images": known, "annotations": [*said, *said]}))
    return f'{FOLDER}condition = {{ kind = "text", file = "captions_train2017.json" }}\n'


def cityscapes(root):
    """Pictures by city, with training ids of 3 classes and 255."""
    for number in range(COUNT):
        split, city = ("val", "ulm") if number >= COUNT - TEST else ("train", ("aachen", "bonn")[number % 2])
        name = f"{split}/{city}/{city}_{number:03}"
        put(root / f"leftImg8bit/{name}_leftImg8bit.png", levels(number))
        found = ids(number, 3)
        found[found == 3] = 255
        put(root / f"gtFine/{name}_gtFine_labelTrainIds.png", found)
        put(root / f"gtFine/{name}_gtFine_color.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    return (
        f'{HEAD}source = "folder"\nlayout = "classes"\npath = "leftImg8bit/train"\ntest_path = "leftImg8bit/val"\n'
        'condition = { kind = "map", path = "gtFine/train", test_path = "gtFine/val", '
        'suffix = "_gtFine_labelTrainIds.png", image_suffix = "_leftImg8bit.png", classes = 3, ignore = 255 }\n'
    )


def ade(root):
    """Photographs as JPEG, and maps of 4 classes from 1, with 0 for everything else."""
    images(root, name="{:03}.jpg")
    for number in range(COUNT):
        put(root / f"annotations/{number:03}.png", ids(number, 4))
    return f'{FOLDER}condition = {{ kind = "map", path = "annotations", classes = 4, zero = "ignore" }}\n'


def lama(root):
    """Masks beside the images, white where to fill."""
    images(root)
    for number in range(COUNT):
        put(root / f"images/{number:03}_mask001.png", np.where(hole(number), 255, 0).astype(np.uint8))
    return f'{FOLDER}condition = {{ kind = "hole", suffix = "_mask001.png", hole = "white" }}\n'


def low_resolution(root):
    images(root, side=SIDE)
    for number in range(COUNT):
        put(root / f"LR_bicubic/X4/{number:03}x4.png", levels(50 + number, SIDE // 4))
    return f'{FOLDER}condition = {{ kind = "image", path = "LR_bicubic/X4", suffix = "x4.png", factor = 4 }}\n'


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def shard(path, members):
    """Write a tar file of (name, bytes or a `TarInfo`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            about = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            about.size = 0 if content is about else len(content)
            archive.addfile(about, None if content is about else io.BytesIO(content))


def sample(number):
    name, text = f"a/{number:03}", CAPTIONS[number]
    about = json.dumps({"caption": [text.upper()], "width": SIDE}).encode()
    return [
        (f"{name}.png", png(levels(number))),
        (f"{name}.txt", text.encode()),
        (f"{name}.json", about),
        (f"{name}.cls", f"{number % 2}\n".encode()),
    ]


def tar(root):
    """Three shards of two samples each, written in another order than their names."""
    for first in (4, 0, 2):
        shard(root / f"shards/{first // 2:04}.tar", [*sample(first), *sample(first + 1)])
    return f'{HEAD}source = "tar"\npath = "shards/*.tar"\ncondition = {{ kind = "text" }}\n'
