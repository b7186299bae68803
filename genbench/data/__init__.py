"""Datasets: the entries of datasets files, prepared once into memory-mapped uint8 arrays with labels and a digest.

From Python, `prepare(read_entries(file)[name], data_root)` opens one.
"""

from genbench.data.entries import read_entries as read_entries
from genbench.data.preparation import prepare as prepare
