"""Where jobs run: on this machine, one process a job."""
