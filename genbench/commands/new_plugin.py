"""`genbench new-plugin`: a package for a new model, made from `templates/`."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path
from string import Template

from genbench.extension.sources import declared
from genbench.records.record import REFERENCES
from genbench.support import store
from genbench.support.errors import BadInput
from genbench.support.names import RESERVED
from genbench.support.paths import as_folder, check_elsewhere
from genbench.support.version import __version__

PATTERN = re.compile(r"[A-Za-z](?:[A-Za-z0-9]|[_-](?=[A-Za-z0-9])){0,39}")
"""Valid names of plugins, from which those of module and class are made; models may have other names too."""
FILES = {
    "pyproject.toml": "pyproject.toml", "README.md": "README.md", "{package}.py": "model.py",
    "test_{package}.py": "test_model.py",
}  # fmt: skip
"""The files of a package, each with its template."""


def write_plugin(name: str, out: Path | None) -> str:
    """Write the package of a model into `out`, by default `genbench-NAME`, and return the next steps as text.

    Raises BadInput for a name that is invalid or taken, and if the folder is not empty; then nothing is written.
    """
    check_plugin_name(name)
    distribution = f"genbench-{name.lower().replace('_', '-')}"
    out = as_folder("-o", out or Path(distribution))
    check_elsewhere(f"-o {out}", out)
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"-o {out}: it is not empty", "choose another folder with -o, or remove it")
    words = {
        "name": name, "package": package_of(name), "distribution": distribution, "version": __version__,
        "class_name": "".join(part[0].upper() + part[1:] for part in re.split("[_-]", name)),
    }  # fmt: skip
    with store.atomic_folder(out) as folder:
        for file, template in FILES.items():
            text = files("genbench.commands").joinpath("templates", f"{template}.in").read_text(encoding="utf-8")
            store.put(folder / file.format(**words), Template(text).substitute(words))
    steps = [f"cd {shlex.quote(str(out))}", 'pip install -e ".[test]"', f"genbench check-plugin {name}", "pytest",
             f"genbench run -m {name} -m gaussian -d digits --budget 20s --report report"]  # fmt: skip
    return "\n".join(
        [f"{out}: a model {name} that trains, in {words['package']}.py. Now:", *(f"    {s}" for s in steps)]
    )


def package_of(name: str) -> str:
    """The name of the module in a model's package."""
    return f"genbench_{name.lower().replace('-', '_')}"


def check_plugin_name(name: str) -> None:
    """Raise BadInput if the name cannot be a plugin's, or is taken."""
    where = f"new-plugin {name!r}"
    if not PATTERN.fullmatch(name) or name.lower() in RESERVED:
        rule = "use at most 40 letters, digits, single '_' and '-', beginning with a letter"
        raise BadInput(f"{where}: it cannot be the name of a plugin", rule)
    fix = f"choose another name, for example my-{name}"
    if name.lower() in {point.name.lower() for point in declared()} | set(REFERENCES):
        raise BadInput(
            f"{where}: that model name is already taken", f"{fix}; `genbench plugins` lists the names in use"
        )
    plain = name.lower().replace("-", "_")
    if keyword.iskeyword(plain) or keyword.issoftkeyword(plain) or plain in sys.stdlib_module_names:
        raise BadInput(f"{where}: Python has a keyword or a module of that name", fix)
    installed = {module.lower() for module in packages_distributions()}
    for module in (plain, package_of(name)):
        if module in installed:
            raise BadInput(f"{where}: a package with a module {module!r} is installed", fix)
