"""The models that ship with genbench."""

import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
MODELS = sorted(set(PROJECT["entry-points"]["genbench"]) - {"clip"})
"""An entry point has the name of its model; that of an encoder of text has none."""
ONE_BY_ONE = ("pixelcnn", "pixeliqn", "sparse_transformer")
"""Models that draw one sub-pixel after another, which takes seconds even of tiny ones."""
