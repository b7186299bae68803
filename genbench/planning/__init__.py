"""Planning before anything runs: the jobs, their estimated needs, and every mistake that can be detected."""
