"""Extraction and metrics against torch-fidelity's, on the same images and features, alternating in one process.

    python benchmarks/metrics.py --images 10000 --dim 64
    python benchmarks/metrics.py --images 10000 --dim 2048 --repeats 1 --inception 64

torch-fidelity runs with its defaults: batches of 64 from its own DataLoader, precision and recall from full
distance matrices, KID in 100 subsets of 1,000. Both sides get the same float64 features, and must give equal values.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torch_fidelity.utils import get_featuresdict_from_dataset

from genbench.evaluate import pretrained
from genbench.evaluate.classifier import Classifier, load_classifier
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import SHIPPED_FOLDER
from genbench.evaluate.fidelity import fid, inception_score, kid, precision_recall
from genbench.metrics.features import Features

BATCH = 64
"""torch-fidelity's default."""
Numbers = Mapping[str, float | None]


def processor_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@dataclass
class Times:
    """Wall and CPU seconds of each repeat, including child processes."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @classmethod
    def nothing(cls, repeats: int) -> Times:
        return cls([0.0] * repeats, [0.0] * repeats)

    def measure(self, run: Callable[[], object]) -> object:
        started, used = time.perf_counter(), processor_seconds()
        result = run()
        self.wall.append(time.perf_counter() - started)
        self.processor.append(processor_seconds() - used)
        return result

    def __add__(self, other: Times) -> Times:
        pairs = ((self.wall, other.wall), (self.processor, other.processor))
        return Times(*([a + b for a, b in zip(*pair)] for pair in pairs))


@dataclass
class Row:
    """One comparison: what was compared, both times, and the largest difference between the results."""

    what: str
    ours: Times
    theirs: Times
    difference: str = ""

    def __str__(self) -> str:
        walls = [statistics.median(side.wall) for side in (self.ours, self.theirs)]
        processors = [statistics.median(side.processor) for side in (self.ours, self.theirs)]
        ratios = [values[0] / max(values[1], 1e-9) for values in (walls, processors)]
        return (
            f"{self.what:34} {walls[0]:9.3f} {walls[1]:14.3f} {ratios[0]:7.3f} "
            f"{processors[0]:11.3f} {processors[1]:14.3f} {ratios[1]:7.3f}  {self.difference}"
        )


HEADING = (
    f"{'':34} {'genbench':>9} {'torch-fidelity':>14} {'ratio':>7} "
    f"{'genbench':>11} {'torch-fidelity':>14} {'ratio':>7}\n"
    f"{'':34} {'wall s':>9} {'wall s':>14} {'':>7} {'processor s':>11} {'processor s':>14}"
)


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int
) -> tuple[object, object, Times, Times]:
    """Both results and times, alternating between the sides."""
    times = Times(), Times()
    for _ in range(repeats):
        results = times[0].measure(ours), times[1].measure(theirs)
    return *results, *times


def sets_of_features(count: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Correlated float64 features of two sets, and logits over ten classes."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, dtype=torch.float64, generator=generator) / dim**0.5
    mixing *= torch.linspace(0.05, 2, dim, dtype=torch.float64)[:, None]
    first, second = (torch.randn(count, dim, dtype=torch.float64, generator=generator) @ mixing for _ in range(2))
    return 1.1 * first + 0.02, second, 4 * torch.randn(count, 10, dtype=torch.float64, generator=generator)


def metric_rows(count: int, dim: int, repeats: int) -> list[Row]:
    """FID, KID, precision and recall, and IS, and their sum."""
    a, b, logits = sets_of_features(count, dim)
    size = min(1000, count // 2)
    pairs: dict[str, tuple[Callable[[], Numbers], Callable[[], Numbers]]] = {
        "FID": (
            lambda: {"fid": fid(a, b).value},
            lambda: fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), verbose=False),
        ),
        "KID": (
            lambda: {"kid": kid(a, b).value},
            lambda: kid_features_to_metric(a, b, kid_subset_size=size, verbose=False),
        ),
        "precision and recall": (
            lambda: {str(i): value.value for i, value in enumerate(precision_recall(a, b))},
            lambda: dict(zip("01", calculate_precision_recall_full(a, b))),
        ),
        "inception score": (
            lambda: {"isc": inception_score(logits).value},
            lambda: isc_features_to_metric(logits),
        ),
    }
    rows = []
    for what, (ours, theirs) in pairs.items():
        own, other, *times = alternate(ours, theirs, repeats)
        assert isinstance(own, dict) and isinstance(other, dict)
        both = list(zip(own.values(), other.values()))
        relative = max(abs(x - y) / max(abs(y), 1e-3) for x, y in both)
        rows.append(Row(what, *times, f"values differ by {relative:.1e} (relative)"))
    sums = [sum((getattr(row, side) for row in rows), Times.nothing(repeats)) for side in ("ours", "theirs")]
    rows.append(Row("all metrics", *sums))
    return rows


class Wrapped(FeatureExtractorBase):
    """A classifier from genbench in the form that torch-fidelity accepts."""

    def __init__(self, model: Classifier) -> None:
        super().__init__("wrapped", ["features", "logits"])
        self.model = model

    def forward(self, levels: Tensor) -> tuple[Tensor, ...]:
        return self.model(levels)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"


class Images(torch.utils.data.Dataset[Tensor]):
    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.images[index])


def extraction_row(what: str, own: Extractor, network: FeatureExtractorBase, images: np.ndarray, repeats: int) -> Row:
    """Features and logits of the images, from both loops."""
    ours, theirs, *times = alternate(
        lambda: own.features(images),
        lambda: get_featuresdict_from_dataset(Images(images), network, BATCH, False, False, False),
        repeats,
    )
    assert isinstance(ours, Features) and isinstance(theirs, dict)
    reference = next(iter(theirs.values())).double()
    relative = float((ours.features - reference).abs().max() / reference.abs().max())
    return Row(f"{what}, {len(images):,} images", *times, f"features differ by {relative:.1e} of the largest")


def random_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def classifier_row(count: int, repeats: int) -> Row:
    """The shipped MNIST classifier."""
    model, facts = load_classifier(SHIPPED_FOLDER / "mnist-classifier-v1.json")
    own = Extractor("mnist-classifier-v1", model, model.dim, model.num_classes, {})
    wrapped = Wrapped(copy.deepcopy(model).to(memory_format=torch.contiguous_format)).eval()
    return extraction_row("mnist-classifier-v1", own, wrapped, random_images(count, facts.shape), repeats)


def inception_row(count: int, repeats: int) -> Row:
    """The Inception network with random weights, on 32x32 images."""
    torch.manual_seed(0)
    inception.load_state_dict_from_url = lambda *_, **__: {}
    load, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda *_, **__: None
    layers = ["2048", "logits_unbiased"]
    network = inception.FeatureExtractorInceptionV3("inception-v3-compat", layers, verbose=False)
    torch.nn.Module.load_state_dict = load
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(network.state_dict(), weights)  # noqa: TID251  as the published file is
        fast = pretrained.build_network("inception-v3-compat", layers, weights)
    own = Extractor("inception-v3-compat", pretrained.on_colour(fast), 2048, 1008, {}, batch=pretrained.CPU_BATCH)
    return extraction_row("inception-v3-compat", own, network, random_images(count, (3, 32, 32)), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="images per side, and images extracted")
    parser.add_argument("--dim", type=int, default=64, help="feature dimensions")
    parser.add_argument("--inception", type=int, default=0, help="images through Inception; it is slow on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="repeats per side; medians are printed")
    given = parser.parse_args()
    print(f"{given.images:,} images a side, {given.dim} dimensions, {torch.get_num_threads()} threads, torch "
          f"{torch.__version__}, {given.repeats} turns\n{HEADING}")  # fmt: skip
    for row in metric_rows(given.images, given.dim, given.repeats):
        print(row, flush=True)
    print(classifier_row(given.images, given.repeats), flush=True)
    if given.inception:
        print(inception_row(given.inception, given.repeats))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
