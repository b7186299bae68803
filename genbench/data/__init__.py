"""Datasets: the entries of datasets files, prepared once into memory-mapped uint8 arrays with labels and a digest."""

from genbench.data.dataset import Dataset, Part
from genbench.data.entries import known_datasets, make_entry, read_entries
from genbench.data.folders import as_folder, cache_root, data_root
from genbench.data.preparation import Progress, prepare, stand_in

__all__ = [
    "Dataset",
    "Part",
    "Progress",
    "as_folder",
    "cache_root",
    "data_root",
    "known_datasets",
    "make_entry",
    "prepare",
    "read_entries",
    "stand_in",
]
