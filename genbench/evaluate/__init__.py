"""How samples and models are measured: feature extractors, fidelity metrics, likelihoods and their protocols."""
