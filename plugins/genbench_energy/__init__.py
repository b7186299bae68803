"""Energy-based models: `ebm`, and `jem`, a classifier that is one."""
