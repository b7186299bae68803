"""Plant mistakes, one at a time, in a copy of the source, and check that the tests catch each of them.

    python tools/mutations.py [NAME...]

Prints a table and how many were noticed; exits with 1 if a mistake survives. A mistake is an exact text that occurs
once in genbench/ or plugins/ and its replacement, so that it moves with the code. If the text is gone, an error says
so: find the code and fix the table below.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("genbench", "plugins")
COPIED = (*SOURCES, "tests", "tools", "pyproject.toml", "README.md")
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Mutation:
    """A mistake: the exact text `old` becomes `new`, why that is wrong, and the tests (files or ids) to catch it."""

    name: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "precision and recall swapped",
        '        "precision": share(int((counted.balls > 0).sum()), len(generated)),\n'
        '        "recall": Value(int(counted.recalled.sum()) / total),\n',
        '        "recall": share(int((counted.balls > 0).sum()), len(generated)),\n'
        '        "precision": Value(int(counted.recalled.sum()) / total),\n',
        "a collapsed model would look diverse and a blurred one sharp",
        ("tests/test_fidelity.py", "tests/test_measurements.py"),
    ),
    Mutation(
        "covariance with ddof 0",
        "covariance = (moments.gram - n * np.outer(projected, projected)) / (n - 1)",
        "covariance = (moments.gram - n * np.outer(projected, projected)) / n",
        "FID would be another number than everybody's",
        ("tests/test_fidelity.py", "tests/test_measurements.py"),
    ),
    Mutation(
        "guidance away from the class",
        'lambda x: -F.cross_entropy(classify(x, t), labels, reduction="none")',
        'lambda x: F.cross_entropy(classify(x, t), labels, reduction="none")',
        "samples would be led away from the labels that they are filed under",
        ("tests/test_classifier_guidance.py",),
    ),
    Mutation(
        "the change of density taken away",
        "return normal_log_prob(noise, zero, zero).flatten(1).sum(1) + change",
        "return normal_log_prob(noise, zero, zero).flatten(1).sum(1) - change",
        "where the flow contracts, images would seem improbable",
        ("tests/test_flow_matching.py",),
    ),
    Mutation(
        "the likelihood of a flow in Euler's steps",
        'LIKELIHOOD_SOLVER = "midpoint"',
        'LIKELIHOOD_SOLVER = "euler"',
        "the error of its steps would be taken for probability",
        ("tests/test_flow_matching.py",),
    ),
    Mutation(
        "a step of second order extrapolated backward",
        "x0 = found + (levels[then] - levels[now]) / (levels[now] - level) / 2 * (found - earlier)",
        "x0 = found - (levels[then] - levels[now]) / (levels[now] - level) / 2 * (found - earlier)",
        "few steps would seem to cost more than they do",
        ("tests/test_solvers.py",),
    ),
    Mutation(
        "the two variances of the reverse process swapped",
        'sigma2 = beta if variance == "beta" else',
        'sigma2 = beta if variance == "posterior" else',
        "the bound of a diffusion model would be that of another model",
        ("tests/test_ddpm.py",),
    ),
    Mutation(
        "log2(255) for log2(256)",
        "return bits if discrete else bits + math.log2(LEVELS / 2)",
        "return bits if discrete else bits + math.log2((LEVELS - 1) / 2)",
        "bits/dim of densities would be 0.0056 too low",
        ("tests/test_images.py",),
    ),
    Mutation(
        "a log-determinant forgotten",
        "            x, change = layer(x, labels)\n            log_det = log_det + change\n",
        "            x, change = layer(x, labels)\n",
        "the flow's density would not integrate to one",
        ("tests/test_flow.py", "tests/test_flow_layers.py"),
    ),
    Mutation(
        "distances of features in float32, not centred",
        "        self.first, self.second = first.contiguous(), second.contiguous()\n        centre = second.mean(0)\n",
        "        self.first, self.second = (side.float().double() for side in (first, second))\n"
        "        centre = 0 * second.mean(0)\n",
        "far from the origin precision and recall would be those of rounding errors",
        ("tests/test_fidelity.py", "tests/test_measurements.py"),
    ),
    Mutation(
        "a point counted among its own neighbours",
        "theirs_own = theirs.closest(*theirs.nearest(k + 1 + SPARE), k + 1)[:, 1:]",
        "theirs_own = theirs.closest(*theirs.nearest(k + 1 + SPARE), k + 1)[:, :-1]",
        "the manifold would reach to the k-1-th neighbour only",
        ("tests/test_fidelity.py", "tests/test_measurements.py"),
    ),
    Mutation(
        "a key without the seed",
        '"conditional": self.conditional, "seed": self.seed,',
        '"conditional": self.conditional,',
        "one seed's result could be taken for another's",
        ("tests/test_settings.py",),
    ),
    Mutation(
        "a seed without a value left out of the count",
        "values=values, ranges=ranges, n=len(views),",
        "values=values, ranges=ranges, n=len(ok),",
        "a failed seed would vanish from the table",
        ("tests/test_tables.py", "tests/test_uncertainty.py"),
    ),
    Mutation(
        "the noise of a step not derived from seed and images seen",
        "        seed_generators(self.device, derive_seed(self.job.seed, phase.name, first))\n",
        "",
        "a resumed training would be another training",
        ("tests/test_train.py",),
    ),
    Mutation(
        "a bound reported as exact",
        '"kind": model.likelihood,',
        '"kind": "exact",',
        "a bound would be ranked as a likelihood",
        ("tests/test_known_answers.py",),
    ),
    Mutation(
        "FID against the training images labelled test",
        "Case(generated, settings, train, test, held_out or test, no_classes)",
        "Case(generated, settings, train, train or test, held_out or test, no_classes)",
        "a model that memorises would win",
        ("tests/test_fidelity.py", "tests/test_measurements.py"),
    ),
    Mutation(
        "the two-sample test of the generated images alone",
        "    return (mixed * (count + total - 1) / (k * count * total)).amin(0)\n",
        "    return (mixed * (count + total - 1) / (k * count * total))[0]\n",
        "samples scattered far outside of the data would pass for real",
        ("tests/test_metrics.py::test_two_sample_falls_with_every_distance_and_to_nothing",),
    ),
    Mutation(
        "the two-sample test without its upper bound",
        "Value(min(1.0, float(_worse(counted.mixed, len(generated), total, k))))",
        "Value(float(_worse(counted.mixed, len(generated), total, k)))",
        "copies of the reference would beat real images",
        ("tests/test_metrics.py::test_copies_and_repeats_are_no_better_than_real_images",),
    ),
    Mutation(
        "a sample among its own neighbours in the two-sample test",
        "ours_own, own_of = ours.closest(*near, k + 1)[:, 1:], _within",
        "ours_own, own_of = ours.closest(*near, k + 1)[:, :-1], _within",
        "every sample would have its like for a neighbour",
        ("tests/test_metrics.py::test_two_sample_by_hand",),
    ),
    Mutation(
        "closed balls made open",
        "keep[open_] = self.exact(start + i_open, j_open) <= radius",
        "keep[open_] = self.exact(start + i_open, j_open) < radius",
        "exact copies would lie outside of balls of radius 0",
        ("tests/test_metrics.py::test_ties_and_copies_are_inside", "tests/test_fidelity.py"),
    ),
    Mutation(
        "noise free to beat real images",
        "        if self.worse(self.noise, self.real) <= CLEAR:\n",
        "        if False:\n",
        "a metric that likes noise would rank models",
        ("tests/test_ladder.py",),
    ),
    Mutation(
        "a ladder that may go down",
        "                if self.worse(weaker, stronger) > CLEAR:\n",
        "                if False:\n",
        "a metric that some damage improves would rank models",
        ("tests/test_ladder.py",),
    ),
    Mutation(
        "a refused metric ranked all the same",
        "    return replace(column, unranked=verdict(members, column.key))",
        "    return column",
        "the order of a blind ruler would be believed",
        ("tests/test_ruler.py",),
    ),
    Mutation(
        "a classifier trained on the images that are its floor",
        "    return np.sort(order[apart:]), np.sort(order[:apart])",
        "    return np.sort(order), np.sort(order[:apart])",
        "real images that it knows by heart would pass for the best possible score",
        ("tests/test_local_classifier.py::test_it_sees_no_image_that_is_held_out_and_tells_its_accuracy",),
    ),
    Mutation(
        "a row that copies ranked like any other",
        "copies=of_samples and bool(row.copying)",
        "copies=False",
        "a model that returns its training images would be first",
        ("tests/test_copies_in_tables.py",),
    ),
    Mutation(
        "copies counted only if they are exact",
        "    value = of_real(share(int((ratios <= COPY).sum()), len(ratios)), int((real <= COPY).sum()), len(real))",
        "    value = of_real(share(int(exact.sum()), len(ratios)), int((real <= COPY).sum()), len(real))",
        "one grey level of noise would hide a copy",
        ("tests/test_copies.py::test_known_answers_of_the_share",),
    ),
    Mutation(
        "a value without an error ranked beside values with one",
        "    entrants = [entrant for entrant in entrants if entrant.name not in bare]\n",
        "",
        "it would win or lose by chance",
        ("tests/test_copies_in_tables.py",),
    ),
    Mutation(
        "a likelihood free to look at its batch",
        "            if not apart.mean() <= max(TOLERANCE, RELATIVE * float(others.abs().mean())):\n",
        "            if False:\n",
        "a number that no density gives would be ranked",
        ("tests/test_no_likelihoods.py::test_an_exact_value_that_depends_on_other_images_is_told_of_one_of_them",),
    ),
    Mutation(
        "no evidence of too much mass",
        "    if largest - math.log(len(found)) < math.log(THRESHOLD):\n",
        "    if True:\n",
        "a density of half a bit too much would be first",
        ("tests/test_no_likelihoods.py",),
    ),
    Mutation(
        "samples in [0, 255] taken for images",
        "    if low >= -0.05 * high and 16 <= high <= 300:\n",
        "    if False:\n",
        "white images would pass for a poor model",
        ("tests/test_images.py",),
    ),
    Mutation(
        "prepared arrays used unchecked",
        "    if _is_marked(folder, said, states, now):\n",
        "    if True:\n",
        "altered pixels would be scored under the old digest",
        ("tests/test_prepared_files.py",),
    ),
    Mutation(
        "features of altered pixels used again",
        '        "pixels": PIXELS,\n        "extractor": own.describe(),\n        "torch"',
        '        "extractor": own.describe(),\n        "torch"',
        "features of altered images would outlive the repair",
        ("tests/test_prepared_files.py",),
    ),
    Mutation(
        "an encrypted archive read",
        "    if locked := [member.filename for member in members if member.flag_bits & ENCRYPTED]:\n",
        "    if locked := []:\n",
        "a password would be a bug report",
        ("tests/test_bad_input.py",),
    ),
)


class GoneError(Exception):
    """The text that a mutation replaces does not occur exactly once."""


def place(mutation: Mutation, root: Path) -> Path:
    """The file below `root` that the mistake goes into. Raises GoneError."""
    files = [file for folder in SOURCES for file in sorted((root / folder).rglob("*.py"))]
    found = {file: count for file in files if (count := file.read_text(encoding="utf-8").count(mutation.old))}
    if list(found.values()) != [1]:
        where = ", ".join(f"{file.relative_to(root)} ({count})" for file, count in found.items()) or "nowhere"
        raise GoneError(f"{mutation.name}: its text must be at exactly one place, it is in {where}: {mutation.old!r}")
    return next(iter(found))


def plant(mutation: Mutation, root: Path) -> Path:
    """Put the mistake into the source below `root`; returns the file, relative to `root`. Raises GoneError."""
    file = place(mutation, root)
    file.write_text(file.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
    return file.relative_to(root)


def copy_source(folder: Path) -> None:
    """Copy what the tests need of the project into `folder`."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code in the copy below `root`, and what it printed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", *tests]
    paths = os.pathsep.join(str(path) for path in (root, root / "plugins"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


def try_mutation(mutation: Mutation) -> tuple[bool, str]:
    """Whether a test failed with the mistake in place, and where it was planted and which test caught it.

    Raises RuntimeError if pytest ended other than with passed or failed tests: that proves nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy_source(Path(folder))
        file = plant(mutation, Path(folder))
        code, text = run_tests(Path(folder), mutation.tests)
    if code not in (0, 1):
        raise RuntimeError(f"{mutation.name}: pytest exited with {code}\n{text[-2000:]}")
    failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in text.splitlines() if line.startswith("FAILED ")]
    return code == 1, f"{file}: {failed[0] if failed else 'no test failed'}"


def check_whole(mutations: Sequence[Mutation]) -> None:
    """Check that the chosen tests pass without a mistake. Raises RuntimeError."""
    tests = list(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    with tempfile.TemporaryDirectory() as folder:
        copy_source(Path(folder))
        code, text = run_tests(Path(folder), tests)
    if code:
        raise RuntimeError(f"the tests fail without any mistake\n{text[-2000:]}")


def main(names: Sequence[str]) -> int:
    """Plant the named mistakes, or all; returns 1 if one survives."""
    unknown = set(names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}")
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    for mutation in chosen:
        place(mutation, ROOT)
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=2) as pool:
        whole = pool.submit(check_whole, chosen)
        results = list(pool.map(try_mutation, chosen))
        whole.result()
    for mutation, (noticed, where) in zip(chosen, results):
        print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutation.name}\n          {where}")
        if not noticed:
            print(f"          {mutation.why}")
    count = sum(noticed for noticed, _ in results)
    print(f"{count} of {len(chosen)} noticed in {time.monotonic() - began:.0f} seconds")
    return 0 if count == len(chosen) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (GoneError, RuntimeError, subprocess.TimeoutExpired) as error:
        sys.exit(f"mutations: {error}")
