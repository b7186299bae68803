"""Bad inputs of every kind: what is given, and what genbench must say to it. `test_bad_input.py` gives them all."""

from bad_input import command_line, datasets, images, plugins, runs, samples, suites

TABLES = {
    "command line": command_line.CASES,
    "suites": suites.CASES,
    "datasets files": datasets.CASES,
    "images": images.CASES,
    "samples": samples.CASES,
    "plugins": plugins.CASES,
    "runs": runs.CASES,
}
CASES = {f"{table}: {name}": case for table, cases in TABLES.items() for name, case in cases.items()}
