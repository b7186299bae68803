"""The words that commands about extractors and samples share, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genbench.data.dataset import Dataset
from genbench.data.folders import cache_root
from genbench.data.preparation import Progress
from genbench.devices import one_device
from genbench.executors.local import threads_for
from genbench.extension.registry import Plugins
from genbench.planning.session import Request, open_datasets
from genbench.records.job import Runtime


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of the command line."""

    dataset: str | None = None
    extractors: tuple[str, ...] = ()
    samples: int | None = None
    device: str = "auto"
    plugins: tuple[str, ...] = ()
    datasets: Path | None = None
    data_root: Path | None = None
    weights: Path | None = None
    out: Path = Path("runs")
    offline: bool = False
    preparing: Progress | None = None
    """Called with how far the preparation of a dataset is."""

    @property
    def files(self) -> list[Path]:
        return [self.datasets] if self.datasets else []

    def runtime(self) -> Runtime:
        """The runtime that the words ask for."""
        return Runtime(
            device=str(one_device(self.device)), threads=threads_for(1), out=self.out, cache=cache_root(),
            weights=self.weights, offline=self.offline, plugins=self.plugins,
        )  # fmt: skip

    def open_dataset(self, name: str, plugins: Plugins, tune: bool = False) -> Dataset:
        """The named dataset, or its tuning split, prepared. Raises BadInput naming the nearest for an unknown one."""
        request = Request(None, {}, (), (), data_root=self.data_root, offline=self.offline)
        return open_datasets([name], self.files, plugins, request, self.preparing, tune=tune)[name]
