"""What a run is and what it left: jobs, records, samples and checkpoints on disk. Reading any of it needs no torch."""
