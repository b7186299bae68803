"""Somebody else's package, and one that `new-plugin` wrote, are really installed: found, checked, run, reported."""

import importlib.util
import json
import os
import shutil
import site
import subprocess
import venv
from html.parser import HTMLParser
from pathlib import Path

import pytest
from finished import SMALL, record_of, run_of

OWN = Path(__file__).parent / "third_party" / "genbench-histogram"
PACKAGES = {"histogram": "1.2.3", "ripple": "0.1.0"}


class Environment:
    """A new virtual environment that also sees the packages of this one; nothing in it is from the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        builder = venv.EnvBuilder(with_pip=False)
        builder.create(folder / "env")
        context = builder.ensure_directories(folder / "env")
        self.python = context.env_exe
        (packages,) = (folder / "env").glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (packages / "beside.pth").write_text("\n".join(lines) + "\n")

    def __call__(self, *words: str, cwd: Path | None = None) -> str:
        """What `python -m WORDS` prints on stdout; no module of the working folder is seen."""
        command = [self.python, "-P", "-m", *map(str, words)]
        variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout


class Words(HTMLParser):
    """The text of a page, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.text, self.links = "", []
        self.feed(page.read_text())

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.links += [value for name, value in attributes if name == "href"]


@pytest.mark.slow
def test_installed_packages_are_found_checked_run_and_seen_on_the_page(tmp_path):
    missing = [needed for needed in ("pip", "setuptools") if importlib.util.find_spec(needed) is None]
    if missing:
        pytest.skip(f"a package is installed without the network by {' and '.join(missing)}, not in this environment")
    environment = Environment(tmp_path)
    environment("genbench", "new-plugin", "ripple")
    shutil.copytree(OWN, tmp_path / "genbench-histogram")
    for name, how in {"ripple": ["-e", "."], "histogram": ["."]}.items():
        words = ["--no-deps", "--no-build-isolation", "--no-index", *how]
        environment("pip", "install", *words, cwd=tmp_path / f"genbench-{name}")

    rows = {row["name"]: row for row in json.loads(environment("genbench", "plugins", "--json"))}
    for name, version in PACKAGES.items():
        assert rows[name]["origin"] == f"genbench-{name} {version}"
        assert rows[name]["state"] == "ok" and rows[name]["models"] == [name]
    environment("pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "genbench-ripple")
    assert all(row["passed"] for row in json.loads(environment("genbench", "check-plugin", "histogram", "--json")))

    environment("genbench", "run", *(word for name in PACKAGES for word in ("-m", name)), *SMALL, "--json")
    environment("genbench", "report", "runs", "-o", "pages")
    index = Words(tmp_path / "pages" / "index.html")
    for name, version in PACKAGES.items():
        record = record_of(run_of(tmp_path / "runs", name))
        assert record["status"] == "complete" and record["environment"]["plugin"]["version"] == version
        measured = {m["metric"] for m in record["measurements"] if m["status"] == "ok"}
        assert {"fid_test", "bits_per_dim_test"} <= measured
        (page,) = {link for link in index.links if Path(link.split("#")[0]).stem.startswith(f"{name}-")}
        assert name in index.text and name in Words(tmp_path / "pages" / page.split("#")[0]).text
