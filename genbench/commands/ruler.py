"""`genbench extractors --check`: which metrics of which extractor may rank models on a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genbench.data.dataset import Dataset
from genbench.data.folders import cache_root
from genbench.data.preparation import Progress
from genbench.devices import exact_arithmetic, one_device, use_threads
from genbench.evaluate.extractors import check_extractors, extractor, extractor_names
from genbench.evaluate.ladder import ruler_of
from genbench.executors.local import threads_for
from genbench.planning.plan import check_samples, default_samples
from genbench.planning.session import Request, open_datasets
from genbench.records.job import Runtime
from genbench.records.protocol import EvaluationSettings
from genbench.records.ruler import Ruler
from genbench.running.defaults import load_plugins


@dataclass(frozen=True)
class Words:
    """The words of the command line."""

    dataset: str
    extractors: tuple[str, ...] = ()
    samples: int | None = None
    device: str = "auto"
    plugins: tuple[str, ...] = ()
    datasets: Path | None = None
    data_root: Path | None = None
    weights: Path | None = None
    offline: bool = False
    preparing: Progress | None = None
    """Called with how far the preparation of the dataset is."""


def rulers(words: Words) -> Iterator[Ruler]:
    """The ruler of each named extractor, or of the dataset's, for rows of as many samples as `run` would draw.

    Raises as `run` does before it starts.
    """
    plugins = load_plugins(words.plugins)
    request = Request(None, {}, (), (), data_root=words.data_root, offline=words.offline)
    files = [words.datasets] if words.datasets else []
    data: Dataset = open_datasets([words.dataset], files, plugins, request, words.preparing)[words.dataset]
    count = words.samples or default_samples(data)
    check_samples(count, data)
    runtime = Runtime(
        device=str(one_device(words.device)), threads=threads_for(1), cache=cache_root(), weights=words.weights,
        offline=words.offline, plugins=words.plugins,
    )  # fmt: skip
    registered = plugins.registered("register_extractors")
    check_extractors(words.extractors, data, runtime, registered)
    use_threads(runtime.threads)
    exact_arithmetic()
    for name in extractor_names(words.extractors, data):
        own = extractor(name, data, runtime, registered)
        yield ruler_of(own, data, count, EvaluationSettings(), runtime.cache)
