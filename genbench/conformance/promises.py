"""All promises, in the order in which they are checked."""

from __future__ import annotations

from genbench.conformance import classification, likelihoods, reconstructions, samples, training
from genbench.conformance.promise import Promise

PROMISES = list(
    dict.fromkeys(
        found
        for module in (training, samples, likelihoods, reconstructions, classification)
        for found in vars(module).values()
        if isinstance(found, Promise)
    )
)
