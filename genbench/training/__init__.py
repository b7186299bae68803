"""Training one model to its budget."""
