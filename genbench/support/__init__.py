"""Code that knows nothing of models: errors, text, seeds, files, locks, processes."""
