"""The arrows of the house: exporter -> runtime <- server; bench measures all three, and only cli sees all four.

Inside a room no folder imports back to a folder that imports it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
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
UPWARD = {
    "exporter": {("verification", "int8")},
}
"""Arrows that close a circle between two folders. The list only shrinks: whoever removes an arrow removes its line."""
_CHECKPOINTS = (
    *("exporter", "bench/baseline.py", "bench/checkpoint.py", "bench/checkpoints/"),
    *("bench/long_rows.py", "bench/sentence_vectors.py"),
)
ONLY_IN = {
    "torch": _CHECKPOINTS,
    "transformers": _CHECKPOINTS,
    "optimum": "exporter",
    "onnx": ("exporter", "bench/fusions.py", "bench/long_rows.py"),
    "huggingface_hub": ("cli/pulling", "exporter/families/onnx_text"),
    "psutil": "runtime/machine/cpu.py",
    "falcon": "server",
    "prometheus_client": "server",
}


def _modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def _imported_names(path: Path) -> tuple[str, ...]:
    """Whole dotted names of everything a module imports, inside functions too."""
    return tuple(_names_in(ast.parse(path.read_text())))


def _names_in(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imports(path: Path) -> Iterator[str]:
    """Rooms and top-level names of everything a module imports."""
    yield from (name.removeprefix("siglip_edge.").partition(".")[0] for name in _imported_names(path))


def _folders(room: str) -> dict[str, set[str]]:
    """Folder or module of a room -> the folders and modules beside it that it imports."""
    graph: dict[str, set[str]] = {}
    for path in _modules(room):
        here = path.relative_to(ROOT / room).parts[0].removesuffix(".py")
        inside = [name.split(".") for name in _imported_names(path) if name.startswith(f"siglip_edge.{room}.")]
        graph.setdefault(here, set()).update(parts[2] for parts in inside if parts[2] != here)
    return graph


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room):
    """No arrow of the house points the other way."""
    for path in _modules(room):
        seen = {name for name in _imports(path) if name in ROOMS and name != room}
        assert seen <= MAY_IMPORT[room], path


@pytest.mark.parametrize("room", ROOMS)
def test_folders_of_a_room_import_in_one_direction(room):
    """No circle between the folders of a room: each can be read without those that use it."""
    graph, upward = _folders(room), UPWARD.get(room, set())
    assert all(target in graph[folder] for folder, target in upward), "an arrow is gone; remove it from UPWARD too"
    below = {folder: {name for name in names if (folder, name) not in upward} for folder, names in graph.items()}
    TopologicalSorter(below).prepare()  # raises CycleError, which names the circle


def test_faces_are_mounted_by_the_composition_root_alone():
    """An API is one folder: `server/app.py` mounts it, and nothing else of the server knows it."""
    users = {folder for folder, targets in _folders("server").items() if "faces" in targets}
    assert users == {"app"}


def test_gunicorn_is_known_by_its_own_folder_only():
    """Another server could run the app: the rest of `server/` does not know gunicorn."""
    homes = {str(path.relative_to(ROOT)) for room in ROOMS for path in _modules(room) if "gunicorn" in _imports(path)}
    assert homes
    assert all(home.startswith("server/gunicorn/") for home in homes), homes


@pytest.mark.parametrize("folder", [*ROOMS, "demo", "tests"])
def test_rooms_are_imported_by_their_whole_names(folder):
    """`siglip_edge.runtime`, never `runtime`: an installation has no package of the bare name."""
    for path in _modules(folder):
        assert not {name.partition(".")[0] for name in _imported_names(path)} & set(ROOMS), path


@pytest.mark.parametrize(("library", "place"), ONLY_IN.items())
def test_a_heavy_library_has_one_home(library, place):
    """torch stays offline, psutil in one module, HTTP in the server."""
    homes = {str(path.relative_to(ROOT)) for room in ROOMS for path in _modules(room) if library in _imports(path)}
    assert homes, f"{library} is imported nowhere; drop it from this test"
    assert all(home.startswith(place) for home in homes), homes


def test_onnxruntime_is_imported_where_sessions_are_made():
    """Only two modules of runtime/execution/, the exporter and the bench's profile of kernels know onnxruntime."""
    homes = {
        str(path.relative_to(ROOT)) for room in ROOMS for path in _modules(room) if "onnxruntime" in _imports(path)
    }
    serving = {home for home in homes if not home.startswith(("exporter/", "bench/kernel_profile.py"))}
    assert serving == {"runtime/execution/session.py", "runtime/execution/openvino_plugin.py"}


def test_the_runtime_reads_no_environment():
    """Below the composition root everything receives plain values."""
    for path in _modules("runtime"):
        assert not {"os.environ", "getenv"} & set(re.findall(r"[\w.]+", path.read_text())), path
