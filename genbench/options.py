"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number in a range: not `nan`, which no comparison keeps out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number.", param, ctx)


PATH = click.Path(path_type=Path)
RUNS = click.argument("runs", nargs=-1, required=True, type=PATH)
JSON = click.option("--json", "as_json", is_flag=True, help="Strict JSON on stdout and nothing else.")
PLUGIN = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE|PACKAGE", help="Also load this plugin; repeatable."
)
DATASETS = click.option(
    "--datasets", type=PATH, metavar="FILE", help="A datasets.toml of your own, besides the bundled one."
)
WEIGHTS = click.option(
    "--weights", type=PATH, envvar="GENBENCH_WEIGHTS", help="File or folder of feature extractor weights."
)
DATA_ROOT = click.option("--data-root", type=PATH, help="Where datasets are, or are downloaded to (GENBENCH_DATA).")
OUT = click.option("--out", type=PATH, default=Path("runs"), show_default=True, help="The folder of run folders.")
