"""Machine and versions for the record: what may explain a different number elsewhere."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genbench.devices import device_name
from genbench.records.record import Environment
from genbench.support.version import __version__

if TYPE_CHECKING:
    from genbench.records.job import Job

PACKAGES = ("numpy", "torch-fidelity", "torchvision", "scipy", "safetensors")


def environment(job: Job, processes: int = 1) -> Environment:
    """The environment of a job trained by `processes` processes: no environment variables, paths or user names."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Environment(
        genbench=__version__, plugin=job.plugin, torch=torch.__version__, python=platform.python_version(),
        device=device_name(torch.device(job.runtime.device)), threads=job.runtime.threads, processes=processes,
        executor=job.runtime.executor, precision=job.precision,
        platform=f"{platform.system()} {platform.machine()}", packages=packages,
        git_commit=git_commit(),
    )  # fmt: skip


def git_commit() -> str | None:
    """The commit of the source checkout genbench runs from; None for an installed package."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", os.fspath(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
