"""Datasets files: `--datasets mine.toml`, and what they lead to before an image is read."""

from bad_input.case import SMALL, Case, pictures
from bad_input.command_line import NAMES

HEAD = "[mine]\nsource = 'folder'\nshape = [1, 8, 8]\n"


def entry(text: str | bytes, *texts: str, code: int = 2, files: dict | None = None, **words: str) -> Case:
    asked = f"run -m gaussian -d mine --datasets mine.toml {SMALL}"
    return Case(asked, code, texts, {"mine.toml": text, **(files or {})}, **words)


CASES = {
    "syntax": entry("[mine\n", "mine.toml:1:6"),
    "cut short": entry(f"{HEAD}path =", "mine.toml:4:7"),
    "UTF-16": entry(HEAD.encode("utf-16"), "mine.toml", "not UTF-8 at byte 0"),
    "Latin-1": entry("# ö".encode("latin-1"), "mine.toml", "byte 2"),
    "empty": entry("", "mine.toml", "no dataset", "[mine]"),
    "no table": entry("mine = 3\n", "mine.toml:1 [mine]", "a dataset is a table"),
    "a version of the format": entry("schema_version = 9\n", "mine.toml:1 [schema_version]", "a dataset is a table"),
    "no source": entry("[mine]\npath = 'x'\n", "mine.toml:1 [mine]", "source", "folder"),
    "unknown source": entry("[mine]\nsource = 'foldr'\n", "mine.toml:2 [mine]", "did you mean 'folder'"),
    "a list for the source": entry("[mine]\nsource = ['folder']\n", "mine.toml:2 [mine]", "source"),
    "unknown key": entry(f"{HEAD}path = 'x'\nlayuot = 'flat'\n", "mine.toml:5 [mine]: layuot", "did you mean 'layout'"),
    "missing key": entry(HEAD, "mine.toml:1 [mine]: path: missing"),
    "missing shape": entry("[mine]\nsource = 'folder'\npath = 'x'\n", "[mine]: shape: missing"),
    "a text for the shape": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = '32px'\n", "mine.toml:4", "32px"),
    "a fraction for a side": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [1, 8.5, 8]\n", "mine.toml:4", "8.5"),
    "true for channels": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [true, 8, 8]\n", "mine.toml:4", "true"),
    "a date for classes": entry(f"{HEAD}path = 'x'\nnum_classes = 2020-01-01\n", "mine.toml:5", "num_classes", "2020"),
    "true for classes": entry(f"{HEAD}path = 'x'\nnum_classes = true\n", "mine.toml:5", "num_classes", "true or false"),
    "negative classes": entry(f"{HEAD}path = 'x'\nnum_classes = -1\n", "mine.toml:5", "num_classes", "-1"),
    "a million classes": entry(f"{HEAD}path = 'x'\nnum_classes = 1000000\n", "mine.toml:5", "num_classes"),
    "sides of nothing": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [1, 0, 0]\n", "mine.toml", "8 to 512"),
    "sides of 100,000": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [1, 100000, 8]\n", "mine.toml", "8 to 512"),
    "two channels": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [2, 8, 8]\n", "mine.toml:4", "shape", "got 2"),
    "two numbers for the shape": entry("[mine]\nsource = 'folder'\npath = 'x'\nshape = [8, 8]\n", "mine.toml:4", "shape"),
    "crop of nothing": entry(f"{HEAD}path = 'x'\ncrop = 0\n", "mine.toml:5", "crop", "got 0"),
    "fraction above one": entry(f"{HEAD}path = 'x'\ntest_fraction = 1.5\n", "mine.toml:5", "test_fraction", "1.5"),
    "fraction of nothing": entry(f"{HEAD}path = 'x'\ntest_fraction = 0\n", "mine.toml:5", "test_fraction"),
    "fraction that is no number": entry(f"{HEAD}path = 'x'\ntest_fraction = nan\n", "mine.toml:5", "test_fraction"),
    "fraction that leaves no test image": entry(
        f"{HEAD}path = 'x'\ntest_fraction = 0.01\n", "[mine]", "test image", "at least 2", files=pictures("x")
    ),
    "fraction that leaves no training image": entry(
        f"{HEAD}path = 'x'\ntest_fraction = 0.99\n", "[mine]", "1 train image", files=pictures("x")
    ),
    "unknown layout": entry(f"{HEAD}path = 'x'\nlayout = 'nested'\n", "mine.toml:5", "layout", "nested"),
    "no such path": entry(f"{HEAD}path = 'nowhere'\n", "nowhere", "no such file or folder"),
    "no such path for test images": entry(
        f"{HEAD}path = 'x'\ntest_path = 'nowhere'\n", "nowhere", files=pictures("x")
    ),
    "a path that is a file": entry(f"{HEAD}path = 'a-file'\n", "a-file", "not a folder", files={"a-file": ""}),
    "a path with a variable": entry(f"{HEAD}path = '$HOME/x'\n", "$HOME/x", "variables", "~"),
    "a path with a NUL": entry(f'{HEAD}path = "a\\u0000b"\n', "a\\x00b", "datasets file"),
    "a home folder of nobody": entry(f"{HEAD}path = '~nobody-here/x'\n", "~nobody-here/x"),
    "an address of an archive": entry(f"{HEAD}path = 'x'\nurl = 'http://x'\n", "mine.toml:5", "url: unknown key"),
    "an address with a password": entry(
        "[mine]\nsource = 'huggingface'\nshape = [1, 8, 8]\npath = 'https://me:hunter22@host/x'\n",
        "mine.toml:4", "path", "a secret",
    ),
    "two sources of images": entry(f"{HEAD}path = 'x'\nbuiltin = 'digits'\n", "mine.toml:5", "builtin: unknown key"),
    "unknown dataset of torchvision": entry(
        "[mine]\nsource = 'torchvision'\nshape = [1, 8, 8]\ndataset = 'MNISTT'\ntrain = {}\ntest = {}\n",
        "MNISTT", "did you mean 'MNIST'",
    ),
    "a module of torchvision": entry(
        "[mine]\nsource = 'torchvision'\nshape = [1, 8, 8]\ndataset = 'utils'\ntrain = {}\ntest = {}\n", "utils",
    ),
    "unknown split of torchvision": entry(
        "[mine]\nsource = 'torchvision'\nshape = [3, 8, 8]\ndataset = 'SVHN'\n"
        "train = { split = 'tset' }\ntest = { split = 'test' }\n", "SVHN", "tset",
    ),
    "unknown argument of torchvision": entry(
        "[mine]\nsource = 'torchvision'\nshape = [1, 8, 8]\ndataset = 'MNIST'\ntrain = { trian = true }\ntest = {}\n",
        "MNIST", "trian",
    ),
    "an argument of torchvision that genbench gives": entry(
        "[mine]\nsource = 'torchvision'\nshape = [1, 8, 8]\ndataset = 'MNIST'\ntrain = { root = '/x' }\ntest = {}\n",
        "mine.toml:5", "root",
    ),
    "a transform of torchvision": entry(
        "[mine]\nsource = 'torchvision'\nshape = [1, 8, 8]\ndataset = 'MNIST'\ntrain = { transform = 'x' }\ntest = {}\n",
        "mine.toml:5", "transform",
    ),
    "a generated dataset without noise": entry(
        "[mine]\nsource = 'mixture'\nshape = [1, 8, 8]\nnoise = 0\n", "mine.toml:4", "noise"
    ),
    "a generated dataset of one image": entry(
        "[mine]\nsource = 'mixture'\nshape = [1, 8, 8]\ntrain_images = 1\n", "mine.toml:4", "train_images"
    ),
    "the name of a bundled dataset": entry(
        "[digits]\nsource = 'folder'\nshape = [1, 8, 8]\npath = 'x'\n", "digits", "mine.toml", "datasets.toml", "rename"
    ),
    "too large": entry("#" * 300_000, "mine.toml", "256 KiB"),
    "a hundred thousand tables": entry("".join(f"[a{i}]\n" for i in range(100_000)), "mine.toml", "256 KiB"),
    "nested a thousand times": entry(f"mine = {'[' * 2000}{']' * 2000}\n", "mine.toml", "nested too deeply"),
    "not readable": entry(HEAD, "mine.toml", "Permission denied", code=4, denied="mine.toml"),
    "several mistakes in several tables": entry(
        f"{HEAD}path = 3\ncrop = 0\n[other]\nsource = 'foldr'\n", "mine.toml:4 [mine]: path", "mine.toml:5 [mine]: crop",
        "mine.toml:7 [other]: source", "mend all 3",
    ),
    "thirty mistakes": entry(
        "".join(f"[a{i}]\nsource = 'x'\n" for i in range(30)), "[a0]", "[a19]", "and 10 more", "mend all 30"
    ),
}  # fmt: skip
CASES |= {
    f"a name, {what}": entry(f'["{name}"]\nsource = "folder"\n', "mine.toml:1", "letters, digits")
    for what, name in NAMES.items()
    if name.isprintable()
}
