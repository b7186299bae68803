"""One model to its budget."""
