"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from genbench.support.denials import look, may_open


class FiniteRange(click.FloatRange):
    """A finite number in a range: `nan` passes every comparison that would reject it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number.", param, ctx)


def looked_at(path: Path, param: click.Parameter | None) -> Path:
    """The path, which an error would name with the option that it is given by."""
    return look(path, param.opts[-1] if isinstance(param, click.Option) else "")


class AnyPath(click.Path):
    """A path that may be absent, but not beyond this process's reach."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return looked_at(Path(os.fsdecode(super().convert(value, param, ctx))), param)


class FileOrName(click.types.StringParamType):
    """A name, or a file that this process may read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = looked_at(Path(value), param)
        if path.is_file():
            may_open(path)
        return super().convert(value, param, ctx)


PATH = AnyPath(path_type=Path)
FILE_OR_NAME = FileOrName()
RUNS = click.argument("runs", nargs=-1, required=True, type=PATH)
JSON = click.option("--json", "as_json", is_flag=True, help="Strict JSON on stdout and nothing else.")
FULL = click.option("--full", is_flag=True, help="Whole tables with all notes also on a terminal.")
PLUGIN = click.option(
    "--plugin", "plugins", type=FILE_OR_NAME, multiple=True, metavar="FILE|PACKAGE",
    help="Also load this plugin; repeatable. Trackers ship: genbench_tensorboard, genbench_wandb, genbench_mlflow.",
)  # fmt: skip
DATASETS = click.option(
    "--datasets", type=PATH, metavar="FILE", help="Your datasets.toml, in addition to the bundled one."
)
WEIGHTS = click.option(
    "--weights", type=PATH, envvar="GENBENCH_WEIGHTS", help="File or folder of feature extractor weights."
)
DATA_ROOT = click.option(
    "--data-root", type=PATH, help="Folder with the datasets, or to download them to (GENBENCH_DATA)."
)
OUT = click.option("--out", type=PATH, default=Path("runs"), show_default=True, help="The folder of run folders.")

ENCODER = click.option(
    "--encoder", metavar="NAME=FOLDER", help="Condition on text as this frozen encoder makes it, such as clip=FOLDER."
)

EXPERIMENT = (
    click.argument("suite", required=False, type=PATH),
    click.option("-m", "--model", "models", multiple=True, metavar="MODEL", help="Compare this model; repeatable."),
    click.option("-d", "--dataset", "dataset", multiple=True, metavar="DATASET", help="Use this dataset; repeatable."),
    click.option("--seeds", help="A count (3), or the seeds themselves (0,1,2 or 7,)."),
    click.option("--budget", help="Training budget per model: 180s, 200000images, 2000steps or 1e15flops."),
    click.option("--samples", type=click.IntRange(2), help="Samples per model; default min(10000, test images)."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="MODEL.KEY=VALUE",
        help="Set a model's option, its preset or its label; repeatable.",
    ),
    click.option(
        "--sweep",
        "sweeps",
        multiple=True,
        metavar="MODEL.KEY=V,V,V",
        help="A row for each value of a model's option, each combination of several; repeatable. Rows that differ only "
        "in sampling share one training.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:0,cuda:1."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        help="Of training and sampling; auto: bf16 where it is in hardware.",
    ),
    click.option(
        "--conditional",
        is_flag=True,
        default=None,
        help="Condition every model that supports it on the labels, except where a suite's row says otherwise.",
    ),
    click.option(
        "--condition",
        metavar="KIND",
        help="Condition on this kind, or, if own, on what each dataset is made for; class is --conditional.",
    ),
    ENCODER,
    click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Concurrent jobs per device, if memory allows; they share the CPU's cores.",
    ),
    click.option(
        "--executor",
        metavar="NAME",
        default="local",
        show_default=True,
        help="Where jobs run: local, ray (a Ray cluster), or a plugin's.",
    ),
    click.option("--extractor", "extractors", multiple=True, metavar="NAME", help="Feature extractor; repeatable."),
    click.option("--curve", type=click.IntRange(1, 100), metavar="N", help="Also score N points along each training."),
    click.option(
        "--tune",
        is_flag=True,
        default=None,
        help="Score on training images that are held out, not on the test images: to choose options by.",
    ),
    click.option("--likelihood-images", type=click.IntRange(2), help="Images per split for bits/dim."),
    click.option(
        "--processes",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Processes that train each model together, each on its own CUDA device or sharing the CPU; "
        "under torchrun, as many as it starts.",
    ),
    click.option("--compile", is_flag=True, default=None, help="Train and sample with compiled networks."),
    PLUGIN,
    DATASETS,
    DATA_ROOT,
    WEIGHTS,
    OUT,
    click.option("--timeout", type=FiniteRange(1), metavar="SECONDS", help="End a job that takes longer than this."),
    click.option(
        "--hang-timeout",
        type=FiniteRange(1),
        metavar="SECONDS",
        help="End a job that makes no progress, no step and no block of samples, for this long. Default: never.",
    ),
    click.option(
        "--allow-rank-deficient", is_flag=True, default=None, help="FID also from fewer samples than features."
    ),
    click.option("--offline", is_flag=True, help="Never use the network."),
    click.option("--strict-plugins", is_flag=True, help="Refuse to run while any plugin is broken."),
    JSON,
    click.option("--traceback", is_flag=True, help="Show the traceback of an error."),
)
"""The arguments that `run` and `plan` share."""
