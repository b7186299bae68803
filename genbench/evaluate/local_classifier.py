"""The classifier that is trained on a dataset's own labels: on which images, when, and whether it is fit for use.

It is trained on first use and kept in the cache. Its training is announced, and booked on no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench.evaluate.held_out import parted
from genbench.evaluate.parts import booked_on_none
from genbench.support.lock import awaited
from genbench.support.progress import report, stop_if_requested
from genbench.support.text import duration

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.evaluate.classifier import Facts

ESTIMATED_AFTER_SECONDS = 5.0
"""Of training, before its time is estimated from its pace."""
TOLD = ("train_images", "held_out_images", "train_accuracy", "held_out_accuracy", "test_accuracy")
LEAST_OVER_CHANCE = 0.3
"""What a classifier must reach of the way from chance to perfect, for its features to mean something."""


def classifier_file(digest: str, cache: Path) -> Path:
    """Where the JSON file of the classifier of a dataset with this digest is, once it is trained."""
    from genbench.evaluate.classifier import LOCAL_FILE, RECIPE

    return cache / "classifiers" / f"{digest[:32]}-{RECIPE}" / LOCAL_FILE


def local_classifier(dataset: Dataset, cache: Path, device: str = "cpu") -> Path:
    """The JSON file of the dataset's classifier, trained on first use and cached by the dataset's digest.

    A second process that needs it at the same time waits for the first. Neither books that time on the job it runs.
    """
    file = classifier_file(dataset.digest, cache)

    def tell(holder: str) -> None:
        if not file.exists():
            report("note", 0.0, f"waiting for the local classifier of {dataset.name}, which {holder} is training")

    with booked_on_none(), awaited(file.parent, tell):
        if not file.exists():
            _train(dataset, file, device)
    return file


def _train(dataset: Dataset, file: Path, device: str) -> None:
    from genbench.evaluate.classifier import accuracy, save_classifier
    from genbench.evaluate.classifier_training import Examples, train_classifier, updates_for

    assert dataset.train.labels is not None
    own, apart = parted(len(dataset.train))
    examples = Examples(dataset.train.images, dataset.train.labels, own, apart)
    model = train_classifier(examples, dataset.num_classes, 0, device, _announced(dataset))
    stop_if_requested()
    measured = {
        "train": (examples.images, examples.labels, own), "held_out": (examples.images, examples.labels, apart),
        "test": (dataset.test.images, dataset.test.labels, np.arange(len(dataset.test))),
    }  # fmt: skip
    found = {
        f"{name}_accuracy": accuracy(model, images, labels, indices) if labels is not None and len(indices) else None
        for name, (images, labels, indices) in measured.items()
    }
    save_classifier(
        file, model, about=f"trained here on {dataset.name}", trained_on=dataset.digest, train_images=len(own),
        held_out_images=len(apart), updates=updates_for(len(own)), **found,
    )  # fmt: skip


def _announced(dataset: Dataset) -> Callable[[float], None]:
    """What follows a training: a line with the time that it will take, once that is known, and how far it is."""
    what = f"training the local classifier of {dataset.name}"
    first: tuple[float, float] | None = None  # the first update is slow, and says nothing of the rest
    estimated = False

    def follow(share: float) -> None:
        nonlocal first, estimated
        stop_if_requested()
        report("evaluate", share, what)
        now = time.monotonic()
        first = first or (now, share)
        passed, done = now - first[0], share - first[1]
        if not estimated and passed > ESTIMATED_AFTER_SECONDS and done > 0:
            estimated = True
            report("note", share, f"{what}, once: about {duration(passed / done)}")

    report("note", 0.0, what)
    return follow


def classifier_facts(facts: Facts, dataset: Dataset) -> dict[str, Any]:
    """What a ruler tells about a local classifier: its classes, its accuracy on images of each part, and chance.

    An accuracy is None if there were no such images, or no labels of them. `most_frequent` is the share of the most
    frequent label of the images on which it is tried, which is what always naming it gets right.
    """
    known = {"classes": facts.num_classes, **facts.model_dump(include=set(TOLD))}
    labels, train = dataset.test.labels, dataset.train.labels
    if labels is None and train is not None:
        labels = train[parted(len(dataset.train))[1]]
    if labels is not None and len(labels):
        known["most_frequent"] = float(np.bincount(labels).max() / len(labels))
    return known


def refusal(facts: dict[str, Any]) -> str:
    """Why a classifier of these facts is no ruler: it knows images it has not seen hardly better than chance; or ""."""
    names = {"test_accuracy": "test", "held_out_accuracy": "held-out"}
    name = next((name for name in names if facts.get(name) is not None), None)
    if name is None:
        return "the local classifier was tried on no image that it had not seen"
    if facts.get("most_frequent") == 1:
        return f"the {names[name]} images are all of one class: whether the local classifier learned classes is unknown"
    chance, accuracy = max(1 / facts["classes"], facts.get("most_frequent", 0.0)), facts[name]
    if accuracy - chance >= LEAST_OVER_CHANCE * (1 - chance):
        return ""
    least = chance + LEAST_OVER_CHANCE * (1 - chance)
    return (
        f"the local classifier is right about {accuracy:.0%} of the {names[name]} images of {facts['classes']} "
        f"classes (chance {chance:.0%}): its features mean nothing below {least:.0%}"
    )


def announcement(dataset: Dataset, cache: Path, device: str | None) -> str:
    """What is told before the first job that needs the classifier: that it is trained, and how long; "" if it is there.

    The time is not known if the `device` is another machine's (None).
    """
    if dataset.train.labels is None or classifier_file(dataset.digest, cache).exists():
        return ""
    from genbench.evaluate.classifier_training import Examples, seconds_to_train

    own, apart = parted(len(dataset.train))
    time = ""
    if device is not None:
        examples = Examples(dataset.train.images, dataset.train.labels, own, apart)
        time = f"~{duration(seconds_to_train(examples, dataset.num_classes, device))} by its first updates, "
    return (
        f"first, a classifier is trained on {len(own):,} labelled images of {dataset.name}: {time}once; it is kept in "
        "the cache for all runs"
    )


def plan_note(dataset: Dataset, cache: Path) -> str:
    """What a plan says of the classifier that the dataset's first job needs: that it is trained first, or there."""
    if classifier_file(dataset.digest, cache).exists():
        return "the local classifier is in the cache"
    from genbench.evaluate.classifier_training import updates_for

    images = len(parted(len(dataset.train))[0])
    return f"trains the local classifier first, once: {updates_for(images):,} updates on {images:,} images"
