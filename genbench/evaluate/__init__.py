"""What samples and models are measured with: feature extractors, fidelity metrics, likelihoods and their protocols."""
