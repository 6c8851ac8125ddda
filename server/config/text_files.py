"""Text files of the operator: UTF-8, with or without a byte order mark, with any line ends."""

from __future__ import annotations

from pathlib import Path

from siglip_edge.server.config.variables import SettingsInvalid


def read_text(path: Path, what: str) -> str:
    """The text of the file. `what`: its name in an error, as in `API_KEYS_FILE=keys`. Raises SettingsInvalid."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsInvalid(f"{what} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{what} is not UTF-8 text; save it as UTF-8") from None
