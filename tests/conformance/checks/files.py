"""Files of the repository."""

from __future__ import annotations

import re
import tomllib

from tests.conformance.servers import Servers
from tests.server.conftest import ROOT

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def there(_: Servers, *paths: str) -> None:
    """Each of these files or folders exists."""
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"missing: {', '.join(missing)}"


def contains(_: Servers, path: str, pattern: str) -> None:
    """The file has a line in which this pattern is found."""
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(pattern, text, re.MULTILINE), f"{path} has no {pattern}"


def lacks(_: Servers, path: str, pattern: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not re.search(pattern, text, re.MULTILINE), f"{path} has {pattern}"


def package(_: Servers, *names: str) -> None:
    """pyproject.toml asks for these packages, for serving or in an extra."""
    extras = _PROJECT["optional-dependencies"].values()
    asked = [_name(line) for line in (*_PROJECT["dependencies"], *(line for extra in extras for line in extra))]
    missing = set(names) - set(asked)
    assert not missing, f"not asked for: {', '.join(sorted(missing))}"


def serves_without_torch(_: Servers) -> None:
    """The serving environment has neither PyTorch nor transformers."""
    lines = (*_PROJECT["dependencies"], *_PROJECT["optional-dependencies"]["cpu"])
    assert not {_name(line) for line in lines} & {"torch", "transformers"}


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower()
