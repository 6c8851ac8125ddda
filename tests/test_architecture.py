"""The arrows of the house: exporter -> runtime <- server; bench measures all three, and only cli sees all four."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("exporter", "runtime", "server", "bench", "cli")
MAY_IMPORT = {
    "exporter": {"runtime"},
    "runtime": set(),
    "server": {"runtime"},
    "bench": {"exporter", "runtime", "server"},
    "cli": {"exporter", "runtime", "server", "bench"},
}
_CHECKPOINTS = ("exporter", "bench/baseline.py", "bench/checkpoint.py")
ONLY_IN = {
    "torch": _CHECKPOINTS,
    "transformers": _CHECKPOINTS,
    "optimum": "exporter",
    "onnx": ("exporter", "bench/fusions.py"),
    "psutil": "runtime/machine/cpu.py",
    "falcon": "server",
    "prometheus_client": "server",
}


def _modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    """Rooms and top-level names of everything a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("siglip_edge.").partition(".")[0] for name in names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room):
    """No arrow of the house points the other way."""
    for path in _modules(room):
        seen = {name for name in _imports(path) if name in ROOMS and name != room}
        assert seen <= MAY_IMPORT[room], path


@pytest.mark.parametrize(("library", "place"), ONLY_IN.items())
def test_a_heavy_library_has_one_home(library, place):
    """torch stays offline, psutil in one module, HTTP in the server."""
    homes = {str(path.relative_to(ROOT)) for room in ROOMS for path in _modules(room) if library in _imports(path)}
    assert homes, f"{library} is imported nowhere; drop it from this test"
    assert all(home.startswith(place) for home in homes), homes


def test_onnxruntime_is_imported_by_one_serving_module():
    """Only runtime/execution/session.py and the exporter know onnxruntime."""
    homes = {
        str(path.relative_to(ROOT)) for room in ROOMS for path in _modules(room) if "onnxruntime" in _imports(path)
    }
    assert {home for home in homes if not home.startswith("exporter/")} == {"runtime/execution/session.py"}


def test_the_runtime_reads_no_environment():
    """Below the composition root everything receives plain values."""
    for path in _modules("runtime"):
        assert not {"os.environ", "getenv"} & set(re.findall(r"[\w.]+", path.read_text())), path
