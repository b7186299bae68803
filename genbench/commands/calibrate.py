"""Check the evaluator against known constants: closed forms, the bundled images and classifiers, CIFAR-10."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.data.entries import known_datasets
from genbench.data.folders import cache_root, data_root
from genbench.data.preparation import prepare
from genbench.devices import exact_arithmetic, one_device, use_threads
from genbench.evaluate import fidelity
from genbench.evaluate.extractors import GENERAL, extractor
from genbench.executors.local import threads_for
from genbench.hookspecs import Calibration
from genbench.images import bits_per_dim, dequantize, to_float, to_uint8
from genbench.metrics.features import Features
from genbench.metrics.neighbours import neighbour_metrics
from genbench.records.job import Runtime
from genbench.records.v100 import measure_conversion
from genbench.running.defaults import load_plugins
from genbench.running.references import real_samples
from genbench.support.errors import BadInput, EnvironmentProblem, describe, first_line
from genbench.support.seeds import derive_seed
from genbench.support.text import plain

BUNDLED = {"mnist5k": (0.995, 0.52391), "digits": (0.97465, 1.12126)}
"""Accuracy of the bundled classifier on the test images, and FID of as many real training images against them."""
CIFAR = {"FID train, test": (3.15, 0.02), "IS train": (11.24, 0.05), "IS test": (10.98, 0.05)}
"""(value, tolerance) of CIFAR-10 itself with the networks of Heusel et al. and Salimans et al., as published."""


@dataclass(frozen=True)
class Check:
    """A number and the constant it should equal; `note` says what was skipped or went wrong."""

    name: str
    found: float | None
    expected: float | None
    tolerance: float
    state: Literal["pass", "FAIL", "skipped"]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data; None for a number that is not finite."""
        finite = self.found is not None and math.isfinite(self.found)
        return {**asdict(self), "found": self.found if finite else None}

    def line(self) -> str:
        if self.found is None or self.expected is None:
            return plain(f"{self.state:8} {self.name:56} {self.note}")
        return plain(
            f"{self.state:8} {self.name:56} {self.found:<12.7g} should be {self.expected:.7g} ± {self.tolerance:.2g}"
        )


@dataclass(frozen=True)
class Setup:
    """Where the checks run and look for data and weights; nothing is downloaded."""

    device: str = "cpu"
    data_root: Path | None = None
    weights: Path | None = None

    @classmethod
    def resolve(cls, device: str, root: Path | None, weights: Path | None) -> Setup:
        """The setup that the command line describes. Raises BadInput if the root cannot be a folder."""
        return cls(str(one_device(device)), data_root(root) if root else None, weights)

    def runtime(self) -> Runtime:
        return Runtime(device=self.device, cache=cache_root(), weights=self.weights, offline=True)

    def write_conversion(self, file: Path) -> str:
        """Measure how many V100s the device equals, with the threads of a job that runs alone; return the wording."""
        if file.is_dir() or not file.parent.is_dir():
            raise BadInput(f"--v100 {file}: cannot write there", "choose a file in an existing folder")
        use_threads(threads_for(1))
        conversion = measure_conversion(torch.device(self.device))
        conversion.write(file)
        return conversion.words

    def dataset(self, name: str) -> Dataset:
        return prepare(known_datasets()[name], data_root(self.data_root), offline=True)


def check(name: str, found: float | None, expected: float, tolerance: float, note: str = "") -> Check:
    """Check that a number is what it should be; None and NaN never are."""
    passed = found is not None and abs(found - expected) <= tolerance
    return Check(name, found, expected, tolerance, "pass" if passed else "FAIL", note)


def calibrations(setup: Setup, tell: Callable[[str], None] | None = None) -> list[Check]:
    """Run all checks. Those that cannot run here are skipped with a reason; those that raise have failed."""
    exact_arithmetic()
    groups: dict[str, Callable[[], Iterator[Check]]] = {
        "FID": fid_checks, "KID": kid_checks, "inception score": score_checks, "precision and recall": neighbour_checks,
        "two-sample test": two_sample_checks,
        "equality with torch-fidelity": equality_checks, "bits/dim": bits_checks,
        **plugin_groups(), **{name: partial(bundled_checks, setup, name) for name in BUNDLED},
        "CIFAR-10": partial(cifar_checks, setup),
    }  # fmt: skip
    found: list[Check] = []
    for name, group in groups.items():
        if tell is not None:
            tell(f"calibrating: {name}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, "calibrate", name))
            found += guarded(name, group)
    return found


def plugin_groups() -> dict[str, Callable[[], Iterator[Check]]]:
    """The checks that plugins register on their models' arithmetic."""

    def group(checks: Calibration) -> Iterator[Check]:
        return (check(*each) for each in checks())

    registered = load_plugins().registered("register_calibrations")
    return {name: partial(group, checks) for name, (checks, _) in registered.items()}


def guarded(name: str, group: Callable[[], Iterator[Check]]) -> list[Check]:
    """The checks of a group up to the first exception, which becomes one that failed or was skipped."""
    found: list[Check] = []
    try:
        for each in group():
            found.append(each)
    except (EnvironmentProblem, ImportError) as error:
        found.append(Check(name, None, None, 0.0, "skipped", first_line(error)))
    except Exception as error:
        found.append(Check(name, None, None, 0.0, "FAIL", describe(error)))
    return found


def normal(count: int, dim: int) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64)


def with_moments(count: int, variances: Tensor, mean: float = 0.0, turn: Tensor | None = None) -> Tensor:
    """Uncorrelated points (count, d) with exactly these variances and this mean in each dimension, then rotated."""
    points = normal(count, len(variances))
    points = points - points.mean(0)
    root = torch.linalg.cholesky(torch.cov(points.T))
    white = torch.linalg.solve_triangular(root, points.T, upper=False).T
    points = white * variances.sqrt() + mean
    return points if turn is None else torch.matmul(points, turn)


def fid_checks() -> Iterator[Check]:
    """Heusel et al. 2017, equation 6, between Gaussians."""
    one = torch.ones(16, dtype=torch.float64)
    points = with_moments(400, one)
    yield check("FID of a set with itself", fidelity.fid(points, points).value, 0.0, 1e-6)
    shifted = fidelity.fid(with_moments(400, one, 0.75), points)
    yield check("FID of a mean shifted by 3", shifted.value, 9.0, 1e-6)
    yield check("FID of a doubled scale, 16 dimensions", fidelity.fid(2 * points, points).value, 16.0, 1e-6)
    first, second = torch.linspace(0.2, 3, 16, dtype=torch.float64), torch.linspace(2, 0.1, 16, dtype=torch.float64)
    turn = torch.linalg.qr(normal(16, 16))[0]
    distance = fidelity.fid(with_moments(400, first, turn=turn), with_moments(400, second, turn=turn)).value
    yield check("FID of two turned ellipsoids", distance, float((first.sqrt() - second.sqrt()).square().sum()), 1e-6)
    drawn = fidelity.fid(normal(20_000, 8) + 3 / math.sqrt(8), normal(20_000, 8)).value
    yield check("FID of 20,000 draws of two Gaussians", drawn, 9.0, 0.25)
    far = fidelity.fid(with_moments(400, one, 1e4 + 0.75), with_moments(400, one, 1e4)).value
    yield check("FID of the same far from the origin", far, 9.0, 1e-6)


def kid_checks() -> Iterator[Check]:
    """Bińkowski et al. 2018: unbiased, hence 0 on average between equal distributions."""
    for name, mean, expected in (("equal distributions", 0.0, 0.0), ("N(1, 1) and N(0, 1)", 1.0, 22.0)):
        values = np.array([_kid(normal(400, 1) + mean, normal(400, 1)) for _ in range(60)])
        error = 3 * float(values.std(ddof=1)) / math.sqrt(len(values))
        yield check(f"KID of {name}, mean of 60", float(values.mean()), expected, error)


def _kid(generated: Tensor, reference: Tensor) -> float:
    value = fidelity.kid(generated, reference, subsets=4).value
    return math.nan if value is None else value


def score_checks() -> Iterator[Check]:
    """Salimans et al. 2016: the number of classes at best, 1 at worst."""
    perfect = 1000 * torch.nn.functional.one_hot(torch.arange(1000) % 10, 10).double()
    yield check("IS of 10 perfect classes", fidelity.inception_score(perfect, splits=1).value, 10.0, 1e-6)
    flat = fidelity.inception_score(torch.zeros(1000, 10), splits=1).value
    yield check("IS of a uniform classifier", flat, 1.0, 1e-9)
    one_class = fidelity.inception_score(perfect[:1].expand(100, -1), splits=10).value
    yield check("IS of one class, however confident", one_class, 1.0, 1e-9)
    rows = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).log().repeat(50, 1)
    expected = 2 * math.exp(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    yield check("IS of two classes at 90 %", fidelity.inception_score(rows, splits=1).value, expected, 1e-9)


def neighbour_checks() -> Iterator[Check]:
    """Kynkäänniemi et al. 2019: by hand, and far from the origin, where float32 products cancel."""

    def both(generated: Tensor, reference: Tensor, k: int = 3) -> tuple[float | None, float | None]:
        precision, recall = fidelity.precision_recall(generated, reference, k)
        return precision.value, recall.value

    def column(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None]

    precision, recall = both(column(0.5, 10, 11), column(0, 1, 2, 3), 1)
    yield check("precision of three points, by hand", precision, 1 / 3, 1e-6)
    yield check("recall of three points, by hand", recall, 1.0, 1e-9)
    precision, recall = both(column(2, 2.0001, 50), column(0, 1), 1)
    yield check("precision of a point on the surface", precision, 1 / 3, 1e-6)
    yield check("recall of points out of reach", recall, 0.0, 1e-9)
    first, second = ((normal(300, 16) * 64).round() / 64 for _ in range(2))
    near, far = both(first, second), both((first + 1e4).float(), (second + 1e4).float())
    for name, here, there in zip(("precision", "recall"), near, far):
        yield check(f"{name} far from the origin, in float32", there, -1.0 if here is None else here, 1e-6)
    wide = both(10 * first + 1e4, 0.1 * second + 1e4)[0]
    yield check("precision of wide samples of a tight reference", wide, 0.0, 1e-9)
    precision, recall = both(0.05 * normal(500, 8), normal(500, 8))
    apart = None if precision is None or recall is None else precision - recall
    yield check("precision less recall of a collapsed model", apart, 1.0, 0.3)


def two_sample_checks() -> Iterator[Check]:
    """Schilling 1986: 1 between equal distributions of any kind and dimension, 0 where neighbours are of one kind."""

    def value(generated: Tensor, reference: Tensor, k: int = 3) -> float:
        found = neighbour_metrics(generated, reference, k)["two_sample"].value
        return math.nan if found is None else found

    def column(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None]

    by_hand = value(column(0, 1, 10, 10.5), column(0.4, 30, 40), 2)
    yield check("two-sample test of four points, by hand", by_hand, 0.5, 1e-9)
    yield check("two-sample test of equal distributions", value(normal(2000, 8), normal(2000, 8)), 0.975, 0.03)
    yield check("two-sample test of a set with itself", value(points := normal(300, 8), points), 1.0, 0.0)
    yield check("two-sample test of distant sets", value(normal(300, 8) + 100, normal(300, 8)), 0.0, 0.0)
    wide = value(2 * normal(300, 300), normal(300, 300))
    yield check("two-sample test of scattered points", wide, 0.0, 0.0)
    middle, reference = 0.5 * normal(300, 300), normal(300, 300)
    yield check("two-sample test of points near the mean", value(middle, reference), 0.0, 0.0)
    precision = neighbour_metrics(middle, reference)["precision"].value
    yield check("precision of the same, which are in every ball", precision, 1.0, 0.0)


def equality_checks() -> Iterator[Check]:
    """The same features through torch-fidelity's functions."""
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    first, second, logits = normal(500, 24), 1.2 * normal(400, 24) + 0.1, 3 * normal(500, 10)
    statistics = [metric_fid.fid_features_to_statistics(features) for features in (first, second)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    yield check("FID as torch-fidelity's", fidelity.fid(first, second).value, float(theirs), 1e-6)
    theirs = metric_kid.kid_features_to_metric(
        first, second, kid_subsets=20, kid_subset_size=200, rng_seed=2020, verbose=False
    )["kernel_inception_distance_mean"]
    yield check("KID as torch-fidelity's", fidelity.kid(first, second, 20).value, float(theirs), 1e-9)
    theirs = metric_isc.isc_features_to_metric(logits, 10, True, 2020)["inception_score_mean"]
    yield check("IS as torch-fidelity's", fidelity.inception_score(logits).value, float(theirs), 1e-9)
    values = fidelity.precision_recall(first, second)
    for name, ours, other in zip(
        ("precision", "recall"), values, metric_prc.calculate_precision_recall_full(first, second, 3)
    ):
        yield check(f"{name} as torch-fidelity's", ours.value, float(other), 1e-6)


def bits_checks() -> Iterator[Check]:
    """The convention of bits/dim, and the exact round trip of the pixels it counts."""
    dims = 784
    density = bits_per_dim(torch.tensor([-dims * math.log(2)]), dims, False).item()
    yield check("bits/dim of the uniform density on [-1, 1)", density, 8.0, 1e-6)
    levels = bits_per_dim(torch.tensor([-dims * math.log(256)]), dims, True).item()
    yield check("bits/dim of uniform levels", levels, 8.0, 1e-6)
    every = torch.arange(256, dtype=torch.uint8)
    noisy = dequantize(every.expand(500, -1), torch.Generator().manual_seed(0))
    wrong = int((to_uint8(to_float(every)) != every).sum() + (to_uint8(noisy) != every).sum())
    yield check("levels that floats do not give back", float(wrong), 0.0, 0.0)


def bundled_checks(setup: Setup, name: str) -> Iterator[Check]:
    """The bundled classifier on the bundled images: weights, pixels and features agree with those of other machines."""
    accuracy, floor = BUNDLED[name]
    data = setup.dataset(name)
    assert data.test.labels is not None
    own = extractor(data.extractors[0], data, setup.runtime())
    test = own.features(data.test.images)
    assert test.logits is not None
    right = float((test.logits.argmax(1).numpy() == data.test.labels).mean())
    yield check(f"accuracy of {own.name} on {name}", right, accuracy, 1.5 / len(data.test))
    real = own.features(real_samples(data.train, len(data.test), 2020).images)
    distance = fidelity.fid(real.features, test.features).value
    yield check(f"FID of {len(real)} real images of {name}", distance, floor, 1e-3 * floor)


def cifar_checks(setup: Setup) -> Iterator[Check]:
    """CIFAR-10 against itself in Inception's features; skipped without data, weights, or a GPU."""
    data = setup.dataset("cifar10")
    own = extractor(GENERAL, data, setup.runtime())
    if setup.device == "cpu":
        raise EnvironmentProblem("60,000 images through Inception take about an hour on a CPU: use --device cuda")
    train, test = own.features(data.train.images), own.features(data.test.images)
    values = {
        "FID train, test": fidelity.fid(train.features, test.features).value,
        "IS train": _score(train),
        "IS test": _score(test),
    }
    for name, (expected, tolerance) in CIFAR.items():
        yield check(f"CIFAR-10: {name}", values[name], expected, tolerance)


def _score(found: Features) -> float | None:
    return None if found.logits is None else fidelity.inception_score(found.logits).value
