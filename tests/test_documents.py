"""Every document tells the truth about settings, files, commands and links."""

from __future__ import annotations

from pathlib import Path

from siglip_edge.server.config import settings_page

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_the_servers_own_table():
    """On a difference run `python -m siglip_edge.server.config.settings_page > docs/settings.md`."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_page.page()
