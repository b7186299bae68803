"""Suite files: read by `genbench run suite.toml` and `plan suite.toml`."""

from bad_input.case import Case
from bad_input.command_line import NAMES

MODELS = '[[models]]\nname = "gaussian"\n'


def suite(text: str | bytes, *texts: str, code: int = 2, **words: str) -> Case:
    return Case("plan suite.toml", code, texts, {"suite.toml": text}, **words)


CASES = {
    "unknown key": suite(f"# a suite\nbugdet = 3\n{MODELS}", "suite.toml:2: bugdet", "did you mean 'budget'"),
    "unknown key of a model": suite(
        f"{MODELS}{MODELS}\nlable = 'x'\n", "suite.toml:6: models.1.lable", "did you mean 'label'"
    ),
    "unknown option of a model": suite(f"{MODELS}config = {{ batchsize = 1 }}\n", "gaussian", "batchsize", "batch_size"),
    "a sweep of no values": suite(f"{MODELS}sweep = {{ batch_size = [] }}\n", "suite.toml:3", "batch_size: no values"),
    "a sweep of one number": suite(f"{MODELS}sweep = {{ batch_size = 3 }}\n", "suite.toml:3", "sweep.batch_size"),
    "a sweep's label twice": suite(
        f"{MODELS}sweep = {{ batch_size = [3] }}\n{MODELS}label = 'gaussian-batch_size3'\n", "gaussian-batch_size3 is given twice"
    ),
    "a table under a wrong name": suite('[[model]]\nname = "gaussian"\n', "model: unknown key", "did you mean 'models'"),
    "a wrong name for the name": suite("[[models]]\nkind = 'gaussian'\n", "suite.toml:2: models.0.kind", "did you mean 'name'"),
    "a wrong key of a budget": suite(
        f"budget = {{ amount = 5, unt = 'steps' }}\n{MODELS}", "suite.toml:1: budget.unt", "did you mean 'unit'"
    ),
    "a wrong value in every model": suite(f"{MODELS}preset = 3\n", "suite.toml:3: models.0.preset", "got 3"),
    "no model": suite("seeds = 1\n", "suite.toml", "models", "missing"),
    "no file content": suite("", "suite.toml", "models", "missing"),
    "an empty list of models": suite("models = []\n", "suite.toml:1", "models"),
    "a label twice": suite(MODELS * 2, "gaussian is given twice", "label"),
    "labels that differ in capitals": suite(f"{MODELS}{MODELS}label = 'Gaussian'\n", "gaussian is given twice"),
    "a kind for no condition": suite(
        f"{MODELS}conditional = false\ncondition = 'class'\n", "suite.toml:1: models.0: conditional: false", "'class'"
    ),
    "two kinds at once": suite(f"{MODELS}conditional = true\ncondition = 'text'\n", "models.0: conditional: it means the class"),
    "an unknown kind": suite(f"{MODELS}condition = 'clas'\n", "suite.toml:3: models.0.condition", "clas"),
    "a number for conditional": suite(f"{MODELS}conditional = 3\n", "suite.toml:3: models.0.conditional", "got 3"),
    "labels for a model that takes none": suite(
        f"datasets = ['digits']\n{MODELS}conditional = true\n", "'gaussian' takes no condition", "class"
    ),
    "a label twice, to be told apart by labels that the model does not take": suite(
        f"datasets = ['digits']\nconditional = true\n{MODELS}{MODELS}conditional = false\n", "two rows of this label", "'gaussian' takes none"
    ),
    "labels of images that have none": Case(
        "plan suite.toml --datasets own.toml", 2, ("'own' has no labels", "leave out the rows that ask for them (vae) in suite.toml"),
        {"suite.toml": "datasets = ['own']\n[[models]]\nname = 'vae'\nconditional = true\n",
         "own.toml": "[own]\nsource = 'folder'\npath = 'images'\nshape = [1, 8, 8]\n"},
    ),
    "a title of a page": suite(f"title = '{'x' * 101}'\n{MODELS}", "suite.toml:1: title"),
    "negative seed": suite(f"seeds = [-1]\n{MODELS}", "suite.toml:1: seeds", "-1"),
    "true for seeds": suite(f"seeds = true\n{MODELS}", "suite.toml:1: seeds", "True"),
    "a word for seeds": suite(f"seeds = 'all'\n{MODELS}", "suite.toml:1: seeds", "all"),
    "seeds with a fraction": suite(f"seeds = [0.5]\n{MODELS}", "suite.toml:1: seeds", "0.5"),
    "seed twice": suite(f"seeds = [1, 1]\n{MODELS}", "seed 1 is given twice"),
    "no seeds": suite(f"seeds = []\n{MODELS}", "suite.toml:1: seeds"),
    "endlessly many seeds": suite(f"seeds = 1000000000000\n{MODELS}", "suite.toml:1: seeds", "10,000"),
    "one sample": suite(f"samples = 1\n{MODELS}", "suite.toml:1: samples", "got 1"),
    "true for samples": suite(f"samples = true\n{MODELS}", "suite.toml:1: samples", "true or false"),
    "true for a curve": suite(f"curve = true\n{MODELS}", "suite.toml:1: curve", "true or false"),
    "half a sample": suite(f"samples = 99.5\n{MODELS}", "suite.toml:1: samples", "99.5"),
    "a date for samples": suite(f"samples = 2020-01-01\n{MODELS}", "suite.toml:1: samples"),
    "a number for the budget": suite(f"budget = 60\n{MODELS}", "suite.toml:1: budget", "60", "use 180s"),
    "a budget in minutes": suite(f"budget = '5minutes'\n{MODELS}", "suite.toml:1: budget", "5minutes", "180s"),
    "an option that is swept and set": suite(f"{MODELS}config = {{ ema_decay = 0.9 }}\nsweep = {{ ema_decay = [0, 0.9] }}\n", "suite.toml:1: models.0", "ema_decay is swept and set"),
    "one text for datasets": suite(f"datasets = 'digits'\n{MODELS}", "suite.toml:1: datasets", "digits"),
    "unknown dataset": suite(f"datasets = ['mnsit']\n{MODELS}", "mnsit", "did you mean 'mnist'"),
    "unknown precision": suite(f"precision = 'fp8'\n{MODELS}", "suite.toml:1: precision", "fp8"),
    "unknown extractor": suite(f"datasets = ['digits']\nextractors = ['inception']\n{MODELS}", "inception-v3-compat"),
    "negative trials": suite(f"{MODELS}tuning_trials = -1\n", "suite.toml:3: models.0.tuning_trials", "-1"),
    "a plugin that is not there": suite(f"seeds = 1\nplugins = ['mien.py']\n{MODELS}", "suite.toml:2: plugins", "mien.py"),
    "a plugin whose path is none": suite(f'plugins = ["a\\u0000.py"]\n{MODELS}', "no file", "x00"),
    "one text for plugins": suite(f"plugins = 'mine.py'\n{MODELS}", "suite.toml:1: plugins", "mine.py"),
    "a package for a plugin that is not installed": suite(f"plugins = ['no_such']\n{MODELS}", "no_such"),
    "syntax": suite(f"{MODELS}seeds =\n", "suite.toml:3:8", "Invalid value"),
    "a text that does not end": suite(f'{MODELS}label = "x', "suite.toml:3:"),
    "a key twice": suite(f"seeds = 1\nseeds = 2\n{MODELS}", "suite.toml:2:"),
    "UTF-16": suite(MODELS.encode("utf-16"), "suite.toml", "not UTF-8 at byte 0"),
    "Latin-1": suite(f"# é\n{MODELS}".encode("latin-1"), "suite.toml", "not UTF-8 at byte 2"),
    "binary": suite(b"\x7fELF\x00\xff", "suite.toml", "not UTF-8"),
    "too large": suite("#" * 300_000, "suite.toml", "256 KiB"),
    "nested a thousand times": suite(f"seeds = {'[' * 2000}{']' * 2000}\n{MODELS}", "suite.toml", "nested too deeply"),
    "not readable": suite(MODELS, "suite.toml", "Permission denied", code=4, denied="suite.toml"),
    "a token in the settings": suite(
        f"{MODELS}config = {{ hub_token = 'hf_abcdefgh' }}\n", "hub_token"
    ),
    "several mistakes": suite(
        f"samples = 1\nprecision = 'x'\nbugdet = 1\n{MODELS}", "suite.toml:1: samples", "suite.toml:2: precision",
        "suite.toml:3: bugdet", "fix all 3",
    ),
}  # fmt: skip
CASES |= {
    f"a label, {what}": suite(f"{MODELS}label = {ascii(name)[1:-1].join(chr(34) * 2)}\n", "label", "letters, digits")
    for what, name in {**NAMES, "a line end": "a\\nb", "NUL": "a\\u0000"}.items()
    if name.isascii() and name.isprintable() and name
}  # fmt: skip
