"""Frozen encoders of text: chosen by `--encoder NAME=FOLDER`, told apart by their identity, asked once for a dataset.

What one makes of the captions lies in the cache, by the content of the dataset and the identity of the encoder. A
process that trains reads it there, and loads no encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genbench.condition import ConditionSpec
from genbench.data.dataset import Dataset, read_encoded
from genbench.data.preparation import Progress
from genbench.data.prepared_files import ABOUT, checked, seal
from genbench.data.words import read
from genbench.support import store
from genbench.support.denials import look
from genbench.support.digests import file_digest, settings_digest, source_digest
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem, GenbenchError, describe, did_you_mean
from genbench.support.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    from torch import Tensor

ENCODING = 1
"""Version of how captions are encoded; raise it when the same encoder would give other numbers."""
BLOCK = 64
"""Captions encoded at a time."""
DIGITS = 16
"""Of the digest in an encoder's stamp."""
Registered = Mapping[str, tuple[Any, str]]
"""What plugins registered: name -> (the function that builds, plugin)."""


class Encoder(Protocol):
    """A frozen encoder of text, as a plugin builds it.

    It may have two methods more: `to(device)`, to be moved, and `too_long(texts)`, how many of them it does not read to
    their end. What builds it may have `packages`, the names of those whose versions can change what it makes.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that tells it from others, JSON: digests of weights, settings and tokenizer, and what it makes of a few
        fixed sentences.
        """

    @property
    def shape(self) -> tuple[int, int]:
        """(L, D): tokens of a text at most, and numbers of each."""

    def encode(self, texts: list[str]) -> Tensor:
        """Float (B, L, D), and zeros behind the end of each text."""


@dataclass(frozen=True)
class Chosen:
    """An encoder that was asked for in these `words`; it is built when it is first needed."""

    words: str
    name: str
    folder: Path | None
    registered: tuple[Callable[[Path | None], Encoder], str]
    cache: Path

    @cached_property
    def encoder(self) -> Encoder:
        """It, built. Raises BadInput or EnvironmentProblem, also for whatever its plugin raises by mistake."""
        build, origin = self.registered
        with self._naming():
            built = build(self.folder)
            missing = [part for part in ("identity", "shape", "encode") if not hasattr(built, part)]
            if missing:
                raise BadInput(f"encoder {self.name!r} of {origin} has no {missing[0]}", "see docs/howto/encoder.md")
            return built

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except GenbenchError:
            raise
        except Exception as error:
            told = f"--encoder {self.words}: {describe(error)}"
            raise BadInput(told, f"give another encoder, or fix that of {self.registered[1]}") from error

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """Its identity and shape; of the files of a folder that has been asked for before they are known unbuilt."""
        build, _ = self.registered
        if self.folder is None:
            return self._described()
        behind = {
            "version": ENCODING, "name": self.name, "source": source_digest(build), "files": digests_of(self.folder),
            "packages": {name: version_of(name) for name in ("torch", *getattr(build, "packages", ()))},
        }  # fmt: skip
        file = self.cache / "encoders" / f"{self.name}-{settings_digest(behind)[:DIGITS]}.json"
        try:
            return read_sealed(file, "")
        except CorruptData:
            described = self._described()
            write_sealed(file, described)
            return described

    def _described(self) -> Mapping[str, Any]:
        with self._naming():
            return {"identity": dict(self.encoder.identity), "shape": list(self.encoder.shape)}

    @property
    def stamp(self) -> str:
        """Its name and the digest of its identity and of its code, as in `ConditionSpec.encoder`."""
        behind = {"identity": self.about["identity"], "source": source_digest(self.registered[0])}
        return f"{self.name} {settings_digest(behind)[:DIGITS]}"

    @property
    def spec(self) -> ConditionSpec:
        """What a job conditions on whose captions it encodes."""
        return ConditionSpec("text", tuple(self.about["shape"]), 0, self.stamp)

    def encoded(self, texts: list[str]) -> np.ndarray:
        """Texts as float16 (B, L, D). Raises BadInput unless it keeps to what it says of itself."""
        import torch

        with self._naming(), torch.no_grad():
            found = self.encoder.encode(texts)
            wanted = (len(texts), *self.about["shape"])
            if tuple(found.shape) != wanted:
                raise BadInput(f"encoder {self.name!r} gave {tuple(found.shape)}, not {wanted}", "fix its encode()")
            half = found.detach().to("cpu", torch.float16)
            if not half.isfinite().all():
                raise BadInput(f"encoder {self.name!r} gave numbers that float16 does not hold", "fix its encode()")
        array: np.ndarray = half.numpy()
        return array


def choose(words: str, registered: Registered, cache: Path) -> Chosen:
    """The encoder that `NAME=FOLDER`, or a name alone, asks for; nothing is built. Raises BadInput."""
    name, given, place = words.partition("=")
    if name not in registered:
        known = did_you_mean(name, set(registered)) if registered else "no plugin here registers one"
        raise BadInput(f"--encoder {words}: no encoder {name!r}", f"{known}; see docs/howto/encoder.md")
    if given and not (place and look(Path(place), "--encoder").is_dir()):
        raise BadInput(f"--encoder {words}: {place or 'nothing'} is no folder", f"use --encoder {name}=FOLDER")
    return Chosen(words, name, Path(place) if given else None, registered[name], cache)


def check_encoder(name: str, build: Any) -> None:
    """Raise BadInput for a registered value that builds nothing."""
    if not callable(build):
        raise BadInput(f"register_encoders: {name!r} is {build!r}", "register a function of a folder that builds it")


def missing_packages(build: Any) -> list[str]:
    """The packages that what builds an encoder says it needs, and that are not installed."""
    return [name for name in getattr(build, "packages", ()) if version_of(name) is None]


def version_of(package: str) -> str | None:
    """The installed version of a package, which is not imported; None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def digests_of(folder: Path) -> dict[str, str]:
    """The digests of a folder's own files, by name."""
    return {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.is_file()}


def described(data: Dataset, chosen: Chosen) -> Dataset:
    """The dataset whose text will be that of the encoder. Raises BadInput if it has no captions to encode."""
    if data.digest and any("captions" not in part.conditions.get("text", {}) for part in (data.train, data.test)):
        raise BadInput(
            f"--encoder {chosen.words}: dataset {data.name!r} has no captions, only numbers of words",
            "leave out --encoder, or take a dataset with captions",
        )
    return _of_encoder(data, chosen.spec)


def _of_encoder(data: Dataset, spec: ConditionSpec) -> Dataset:
    conditions = tuple(spec if condition.kind == "text" else condition for condition in data.conditions)
    return replace(data, conditions=conditions)


def encode(data: Dataset, chosen: Chosen, device: str, progress: Progress | None = None) -> Dataset:
    """The dataset with its captions encoded, on a device, unless the cache has them already.

    Raises BadInput, EnvironmentProblem or CorruptData; nothing half-made is left.
    """
    folder = place_of(data, chosen.spec, chosen.cache)
    if not (folder / ABOUT).exists():
        _write(data, chosen, folder, device, progress or (lambda *_: None))
    return encoded_before(data, chosen.spec, chosen.cache)


def encoded_before(data: Dataset, spec: ConditionSpec, cache: Path) -> Dataset:
    """The dataset with the captions that the cache has as an encoder made them.

    Raises EnvironmentProblem if it has none, CorruptData if they have changed.
    """
    folder = place_of(data, spec, cache)
    if not (folder / ABOUT).exists():
        raise EnvironmentProblem(
            f"{folder}: the captions of {data.name}, encoded by {spec.encoder}, are not there",
            "run where they were encoded, or give this machine the same cache (GENBENCH_CACHE)",
        )
    about = checked(folder, ("encoder",))
    noted = data.noted
    if about["cut"]:
        long = f"{about['cut']:,} different captions are longer than {spec.encoder} reads, {spec.shape[0]} tokens"
        noted = (*noted, long)
    train, test = (
        replace(part, encoded=read_encoded(folder, name)) for name, part in (("train", data.train), ("test", data.test))
    )
    return replace(_of_encoder(data, spec), encoded=folder, noted=noted, train=train, test=test)


def place_of(data: Dataset, spec: ConditionSpec, cache: Path) -> Path:
    """The folder in the cache for the captions of a dataset as an encoder makes them."""
    behind = {"version": ENCODING, "dataset": data.digest, "encoder": spec.encoder, "shape": list(spec.shape)}
    return cache / "encoded" / f"{data.name}-{settings_digest(behind)[:DIGITS]}"


def _write(data: Dataset, chosen: Chosen, folder: Path, device: str, progress: Progress) -> None:
    """Encode each different caption once: `texts.npy` (K, L, D), and which of them each image has."""
    splits = {"train": data.train, "test": data.test}
    captions = np.concatenate([part.conditions["text"]["captions"] for part in splits.values()])
    different, places = np.unique(captions, return_inverse=True)
    texts, encoder = read(different), chosen.encoder
    if hasattr(encoder, "to"):
        encoder.to(device)
    cut = int(encoder.too_long(texts)) if hasattr(encoder, "too_long") else 0
    with store.atomic_folder(folder) as temporary:
        shape = (len(texts), *chosen.spec.shape)
        with store.array_pieces(temporary / "texts.npy", np.float16, shape) as write:
            for start in range(0, len(texts), BLOCK):
                write(chosen.encoded(texts[start : start + BLOCK]).tobytes())
                progress(f"{data.name}, {chosen.name}", min(start + BLOCK, len(texts)), len(texts))
        ends = np.cumsum([len(part) for part in splits.values()])
        for name, own in zip(splits, np.split(places.ravel(), ends[:-1])):
            store.write_array(temporary / f"{name}.npy", own.astype(np.int64))
        seal(temporary, {"encoder": dict(chosen.about), "dataset": data.digest, "cut": cut})
