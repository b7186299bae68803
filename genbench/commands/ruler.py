"""`genbench extractors --check`: which metrics of which extractor may rank models on a dataset."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from genbench.commands.evaluate import scoring
from genbench.commands.words import Words
from genbench.data.entries import known_datasets
from genbench.evaluate.extractors import check_extractors, extractor, extractor_names
from genbench.evaluate.ladder import ruler_of
from genbench.planning.plan import check_samples, default_samples
from genbench.records.protocol import EvaluationSettings
from genbench.records.ruler import Ruler
from genbench.running.defaults import load_plugins
from genbench.tables.ruler import WIDTH, better_ruler


def advice(words: Words, found: list[Ruler]) -> str:
    """Which extractor to try if FID ranks nothing with those that were tried, in lines; "" if there is none to name."""
    assert words.dataset is not None
    source = known_datasets(words.files, load_plugins(words.plugins))[words.dataset].source
    refused = {each.extractor: each.verdicts.get("fid_test", "") for each in found}
    text = better_ruler(words.dataset, source.shape, refused)
    return "\n".join(textwrap.wrap(text, WIDTH, break_on_hyphens=False))


def rulers(words: Words) -> Iterator[Ruler]:
    """The ruler of each named extractor, or of the dataset's, for rows of as many samples as `run` would draw.

    Raises as `run` does before it starts.
    """
    plugins = load_plugins(words.plugins)
    assert words.dataset is not None
    data, runtime = words.open_dataset(words.dataset, plugins), words.runtime()
    count = words.samples or default_samples(data)
    check_samples(count, data)
    registered = plugins.registered("register_extractors")
    check_extractors(words.extractors, data, runtime, registered)
    with scoring(runtime, quiet=words.preparing is None):
        for name in extractor_names(words.extractors, data):
            own = extractor(name, data, runtime, registered)
            yield ruler_of(own, data, count, EvaluationSettings(), runtime.cache)
