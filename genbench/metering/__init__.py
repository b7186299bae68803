"""What work costs: seconds, FLOPs, energy."""
