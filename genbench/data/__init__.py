"""Datasets: the entries of datasets files, prepared once into memory-mapped uint8 arrays with labels and a digest."""
