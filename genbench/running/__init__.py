"""One job: train, sample, evaluate, record."""
