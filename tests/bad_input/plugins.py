"""Plugins by `--plugin FILE`: files that cannot be loaded, and models that cannot be built."""

from bad_input.case import SMALL, Case, Content

GOOD = """
import torch
from genbench import Model, field, hookimpl

@hookimpl
def register_models(register):
    register(Toy)

class Toy(Model):
    name = "toy"

    class Config(Model.Config):
        width: int = field(4, "train", "width", ge=1)

    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = torch.nn.Parameter(torch.zeros(data.shape))

    def loss(self, phase, batch):
        return (batch.images - self.mean).square().mean()

    def sample(self, n, labels=None):
        return self.mean.expand(n, *self.data.shape)
"""
HEAD = "from genbench import Model, hookimpl\n\n@hookimpl\n"


def plugin(text: Content, *texts: str, words: str = "", name: str = "mine.py", code: int = 2) -> Case:
    asked = f"run --plugin {name} -m toy -d digits {SMALL} {words}"
    return Case(asked, code, (name, *texts), {name: text})


def changed(old: str, new: str, *texts: str, **more: str) -> Case:
    assert old in GOOD
    return plugin(GOOD.replace(old, new), *texts, **more)


def built(old: str, new: str, *texts: str, words: str = "") -> Case:
    """A fault of the model, not of the file."""
    assert old in GOOD or not old
    asked = f"run --plugin mine.py -m toy -d digits {SMALL} {words}"
    return Case(asked, 2, ("toy", *texts), {"mine.py": GOOD.replace(old, new) if old else GOOD})


CASES = {
    "no such file": Case(f"run --plugin nowhere.py -m toy {SMALL}", 2, ("nowhere.py", "no such Python file")),
    "no such package": Case(f"run --plugin nowhere -m toy {SMALL}", 2, ("nowhere", "No module named")),
    "a text file": plugin("hello", "no such Python file", name="mine.txt"),
    "a folder without __init__.py": plugin(None, "no such Python file", name="folder"),
    "nothing": Case(["run", "--plugin", "", "-m", "toy"], 2, "--plugin"),
    "an interface of the future": plugin(f"genbench_api = 3\n{GOOD}", "genbench_api 3", "has 1 to 2", "upgrade genbench", code=4),
    "an interface of the past": plugin(f"genbench_api = 0\n{GOOD}", "genbench_api 0", "has 1 to 2", "upgrade the plugin", code=4),
    "a word for the interface": plugin(f"genbench_api = '1'\n{GOOD}", "genbench_api is '1'", "is 2", code=4),
    "true for the interface": plugin(f"genbench_api = True\n{GOOD}", "genbench_api is True", code=4),
    "a package that is no plugin": Case(f"run --plugin json -m toy {SMALL}", 2, ("json", "no genbench hook")),
    "a syntax error": plugin("\n\ndef broken(:\n", "SyntaxError", "line 3"),
    "a file that is not UTF-8": plugin(b"x = '\xff'\n", "mine.py", "SyntaxError"),
    "a NUL in the file": plugin(b"x = 1\x00\n", "null bytes"),
    "a missing import": plugin("import no_such_module_at_all\n", "no_such_module_at_all"),
    "an import that raises": plugin("raise RuntimeError('no <luck>')\n", "RuntimeError", "no <luck>"),
    "an import that exits": plugin("import sys\nsys.exit(3)\n", "SystemExit", "3"),
    "an import that exits well": plugin("raise SystemExit\n", "SystemExit"),
    "an import that interrupts": plugin("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "a hook that interrupts": changed("    register(Toy)", "    raise KeyboardInterrupt", "KeyboardInterrupt"),
    "a generator's end": plugin("raise GeneratorExit\n", "GeneratorExit"),
    "an error that has no text": plugin(
        "class Bad(Exception):\n    def __str__(self):\n        raise ValueError\nraise Bad\n", "Bad"
    ),
    "an error with a terminal's escape": plugin("raise RuntimeError('\\x1b[2J\\u202e')\n", "\\x1b[2J\\u202e"),
    "an error with a password": plugin("raise RuntimeError('https://me:hunter22@host/x')\n", "https://***@host"),
    "no hook": plugin("x = 1\n", "no genbench hook", "@genbench.hookimpl"),
    "a hook without its mark": changed("@hookimpl", "", "no genbench hook"),
    "a misspelt hook": changed("def register_models", "def register_model", "did you mean 'register_models'"),
    "a hook with an unknown argument": changed("(register)", "(registr)", "registr"),
    "a hook that raises": changed("    register(Toy)", "    1 / 0", "ZeroDivisionError"),
    "something that is no model": changed("    register(Toy)", "    register(3)", "subclass of genbench.Model"),
    "a model without a name": changed('    name = "toy"', "", "the name of Toy"),
    "a name that is a path": changed('"toy"', '"../toy"', "../toy", "letters, digits"),
    "a name that is a number": changed('"toy"', "3", "the name of Toy", "letters, digits"),
    "a name of 100 letters": changed('"toy"', '"x" * 100', "letters, digits"),
    "a name for LaTeX": changed('"toy"', '"$^$"', "letters, digits"),
    "the name of a shipped model": Case(
        f"run --plugin mine.py -m gaussian -d digits {SMALL}", 2, ("gaussian", "mine.py", "rename"),
        {"mine.py": GOOD.replace('"toy"', '"gaussian"')},
    ),
    "the name of a shipped model in capitals": Case(
        f"run --plugin mine.py -m gaussian -d digits {SMALL}", 2, ("gaussian", "mine.py", "rename"),
        {"mine.py": GOOD.replace('"toy"', '"Gaussian"')},
    ),
    "the name of a reference row": Case(
        f"run --plugin mine.py -m real -d digits {SMALL}", 2, ("real", "reference row"),
        {"mine.py": GOOD.replace('"toy"', '"real"')},
    ),
    "one model twice": changed("    register(Toy)", "    register(Toy); register(Toy)", "Toy", "twice"),
    "a dataset that is none": plugin(
        HEAD + "def register_datasets(register):\n    register('mine', {'source': 'foldr'})\n", "did you mean 'folder'"
    ),
    "a dataset with a bad name": plugin(
        HEAD + "def register_datasets(register):\n    register('../mine', {})\n", "../mine", "letters, digits"
    ),
    "datasets that raise": plugin(HEAD + "def register_datasets(register):\n    1 / 0\n", "ZeroDivisionError"),
    "extractors that raise": plugin(HEAD + "def register_extractors(register):\n    1 / 0\n", "ZeroDivisionError"),
    "an extractor twice": plugin(
        HEAD + "def register_extractors(register):\n    register('x', 1)\n    register('x', 2)\n", "'x'"
    ),
    "a model that is not in it": Case(
        f"run --plugin mine.py -m tyo -d digits {SMALL}", 2, ("tyo", "did you mean 'toy'"), {"mine.py": GOOD}
    ),
    "a model without a loss": built("    def loss(", "    def lose(", "loss"),
    "a model without samples": built("    def sample(", "    def simple(", "sample"),
    "a loss that is no method": built("    def loss(", "    loss = 3\n    def lose(", "loss"),
    "a model that cannot be built": built("torch.zeros(data.shape)", "torch.zeros(data.shpae)", "shpae"),
    "a model that refuses the images": built(
        "        super().__init__(data, config)",
        "        super().__init__(data, config)\n        raise ValueError('sides of 32 only')", "sides of 32 only", "1x8x8",
    ),
    "a model that exits when built": built(
        "        super().__init__(data, config)", "        super().__init__(data, config)\n        raise SystemExit(3)",
        "SystemExit",
    ),
    "a model that interrupts when built": built(
        "        super().__init__(data, config)", "        super().__init__(data, config)\n        raise KeyboardInterrupt",
        "KeyboardInterrupt", "1x8x8",
    ),
    "a model without parameters": built("torch.nn.Parameter(torch.zeros(data.shape))", "torch.zeros(3)", "no parameters"),
    "an option of no role": changed('field(4, "train", "width", ge=1)', "4", "Toy.Config.width", "genbench.field"),
    "an unknown option": built("", "", "wdth", "did you mean 'width'", words="--set toy.wdth=3"),
    "an option of another type": built("", "", "width", "wide", words="--set toy.width=wide"),
    "an option out of range": built("", "", "width", "0", words="--set toy.width=0"),
    "a broken plugin while none may be": Case(
        f"run --strict-plugins --plugin mine.py -m toy {SMALL}", 2, ("mine.py", "SyntaxError"), {"mine.py": "def (:\n"}
    ),
    "a check of a file with a fault": Case(
        "check-plugin mine.py", 2, ("mine.py, line 3", "RuntimeError", "no <luck>"), {"mine.py": "\n\nraise RuntimeError('no <luck>')\n"}
    ),
    "a check of a file without models": Case("check-plugin mine.py", 2, ("no model", "register_models"), {"mine.py": HEAD + "def register_models(register):\n    pass\n"}),
    "a check of a file whose import ends the process": Case("check-plugin mine.py", 2, ("mine.py", "code 3"), {"mine.py": "import os\nos._exit(3)\n"}),
    "a new plugin with a name that is a path": Case("new-plugin ../mine", 2, ("'../mine'", "letters, digits")),
    "a new plugin without a name": Case(["new-plugin", ""], 2, ("''", "letters, digits")),
    "a new plugin that begins with a digit": Case("new-plugin 3d", 2, ("'3d'", "beginning with a letter")),
    "a new plugin with the name of a model": Case("new-plugin VAE", 2, ("'VAE'", "already taken", "my-VAE")),
    "a new plugin with the name of a reference row": Case("new-plugin real", 2, ("'real'", "already taken")),
    "a new plugin with a keyword for a name": Case("new-plugin class", 2, ("'class'", "keyword")),
    "a new plugin with the name of a module of Python's": Case("new-plugin wave", 2, ("'wave'", "module", "my-wave")),
    "a new plugin with the name of an installed package": Case("new-plugin torch", 2, ("'torch'", "installed")),
    "a new plugin in a folder that holds something": Case(
        "new-plugin mine -o there", 2, ("there", "not empty"), {"there/notes.txt": "mine"}
    ),
    "a new plugin in the working folder": Case("new-plugin mine -o .", 2, ("-o .", "working folder")),
    "a new plugin in the place of a file": Case("new-plugin mine -o there", 2, ("there", "file"), {"there": "mine"}),
    "a check on an unknown device": Case("check-plugin gaussian --device gpu", 2, ("gpu", "cuda:0,cuda:1")),
    "a check on a device that is not here": Case("check-plugin gaussian --device cuda:77", 4, "cuda:77"),
    "a check of nothing": Case("check-plugin nowhere.py", 2, "nowhere.py"),
    "a check of an unknown model": Case("check-plugin gausian", 2, "did you mean 'gaussian'"),
    "a list with a broken one": Case("models --plugin mine.py", 2, "SyntaxError", {"mine.py": "def (:\n"}),
}  # fmt: skip
