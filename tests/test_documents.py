"""Every document tells the truth about settings, links, files, folders, commands and decisions."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from siglip_edge.cli.main import COMMANDS
from siglip_edge.runtime.artifacts import manifest
from siglip_edge.runtime.known_models import page as models_page
from siglip_edge.server.config import env_example, settings_page
from tests.runtime.images import formats_page

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "demo/README.md"]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[!R]*.md"))
ROOMS = ("exporter", "runtime", "server", "cli")
TOP = (*ROOMS, "bench", "demo", "deploy", "docs", "quantized_models", "siglip_edge", "tests")
MADE = ("siglip2-base-patch16-256", "bench/out", "bench/.", "demo/.data", "tests/clients/node_modules")
"""Named in documents, made by a command that they show."""


def name_of(path):
    return str(path.relative_to(ROOT))


def is_part(value):
    """Whether it is a type of the manifest, not only imported there or private."""
    is_struct = isinstance(value, type) and issubclass(value, msgspec.Struct)
    return is_struct and value.__module__ == manifest.__name__ and not value.__name__.startswith("_")


def found(pattern, flags=re.MULTILINE):
    """(document, match) of every match in every document, once each."""
    pairs = {
        (name_of(path), match)
        for path in DOCUMENTS
        for match in re.findall(pattern, path.read_text(encoding="utf-8"), flags)
    }
    return sorted(pairs)


def anchors(path):
    """The targets that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_image_formats_is_what_the_server_does():
    """On a difference run `python -m tests.runtime.images.formats_page > docs/image-formats.md`."""
    assert (ROOT / "docs/image-formats.md").read_text(encoding="utf-8") == formats_page.page()


def test_the_settings_page_is_the_servers_own_table():
    """On a difference run `python -m siglip_edge.server.config.settings_page > docs/settings.md`."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_page.page()


def test_the_page_of_models_is_the_table_of_known_models():
    """On a difference run `python -m siglip_edge.runtime.known_models.page > docs/models.md`."""
    assert (ROOT / "docs/models.md").read_text(encoding="utf-8") == models_page.page()


def test_the_example_of_an_env_file_is_the_servers_own_table():
    """On a difference run `python -m siglip_edge.server.config.env_example > .env.example`."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example.text()


@pytest.mark.parametrize(("document", "link"), found(r"\]\(([^)\s]+)\)"))
def test_every_link_leads_somewhere(document, link):
    """To a file of the repository and, after #, to one of its headings."""
    if link.startswith(("http://", "https://", "mailto:")):
        return
    file, _, anchor = link.partition("#")
    target = (ROOT / document).parent / file if file else ROOT / document
    assert target.exists(), link
    if anchor:
        assert anchor in anchors(target), link


@pytest.mark.parametrize(("document", "target"), found(r"(?:^|`)(?:\w+=\S+ )?make ([a-z][a-z0-9-]*)\b"))
def test_every_make_target_named_exists(document, target):
    """`make something` in a document is a target of the Makefile."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{document}: make {target}"


@pytest.mark.parametrize(("document", "module"), found(r"-m ((?:siglip_edge|demo|bench)[\w.]*\w)"))
def test_every_module_that_is_run_exists(document, module):
    """`python -m siglip_edge.something` in a document is a module."""
    assert module.startswith(("siglip_edge.", "demo.")), f"{document}: {module} is not how it is imported"
    assert find_spec(module), f"{document}: {module}"


@pytest.mark.parametrize(("document", "command"), found(r"(?:`|^|bin/)siglip-edge ([a-z]+)\b"))
def test_every_subcommand_named_exists(document, command):
    """`siglip-edge something` in a document is a subcommand."""
    assert command in COMMANDS, f"{document}: siglip-edge {command}"


@pytest.mark.parametrize(("document", "path"), found(rf"`((?:{'|'.join(TOP)})/[\w./-]*)`"))
def test_every_repository_path_in_backticks_exists(document, path):
    """A path that begins with a top-level folder is a file or a folder."""
    if document == "CHANGELOG.md" or any(part in path for part in MADE):  # a changelog names what is gone, too
        return
    assert (ROOT / path).exists(), f"{document}: {path}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_names_every_folder_of_a_room(room):
    """docs/architecture.md names each folder in which there is code, README.md those directly in a room."""
    folders = sorted({name_of(path.parent) for path in (ROOT / room).rglob("*.py")})
    architecture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [folder for folder in folders if f"`{folder}/`" not in architecture] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [folder for folder in folders if folder.count("/") <= 1 and f"`{folder}/`" not in readme] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts_and_is_listed(page):
    """Context, decision, figures and consequences, in that order, in the list of decisions."""
    headings = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Figures", "Consequences"]
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "part", [part for part in vars(manifest).values() if is_part(part)], ids=lambda part: part.__name__
)
def test_every_field_of_the_manifest_is_explained(part):
    """docs/model-directory.md names each field, and each kind of geometry, padding, scoring and shortening."""
    page = (ROOT / "docs/model-directory.md").read_text(encoding="utf-8")
    names = [field.name for field in msgspec.structs.fields(part)]
    names += [part.__struct_config__.tag] if part.__struct_config__.tag else []
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_readme_is_short():
    """A newcomer reads it in ten minutes."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
