"""What knows no model: errors, text, seeds, files, locks, processes."""
