"""A model in the settings, and the directory in which it is looked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ListedModel:
    """A served model's name and directory."""

    name: str
    asked: str
    """The path, name or hub id in the settings."""
    directory: Path

    @classmethod
    def find(cls, name: str, asked: Path, models_dir: Path) -> ListedModel:
        """Look for `asked` as a path, then below `models_dir`. A hub id's directory there has its last part as name."""
        below = [models_dir / asked, models_dir / asked.name]
        found = next((path for path in (asked, *below) if path.exists()), None)
        by_name = len(asked.parts) == 1 or is_hub_id(str(asked))
        return cls(name, str(asked), found or (below[1] if by_name else asked))

    @property
    def places(self) -> str:
        """Where it was looked for."""
        return " or ".join(dict.fromkeys([str(self.directory), self.asked]))

    @property
    def export_command(self) -> str:
        """The command that makes the directory."""
        checkpoint = self.asked if is_hub_id(self.asked) else "CHECKPOINT"
        return f"siglip-edge export {checkpoint} -o {self.directory.parent} --name {self.directory.name}"


def is_hub_id(text: str) -> bool:
    """Whether it is a model's id on a hub, as google/siglip2-base-patch16-256, and no path whose parent exists here."""
    return bool(_HUB_ID.fullmatch(text)) and not Path(text).parent.exists()
