"""The settings of this process, from a command's options, the environment and `.env`."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

from dotenv import dotenv_values

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.text_files import read_text

_FILE = Path(".env")

_NO_HOME = "this user has no home directory, so nothing is kept between starts; set CACHE_DIR to a writable directory"


def read_settings(**options: str | None) -> Settings:
    """Options win over the environment, the environment wins over `.env` in the working directory. Reads MODEL_CONFIG.

    `options`: by the variable's name, as in `read_settings(DEVICE="cpu")`; None: not given. Raises SettingsInvalid.
    """
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.read(given, os.environ, file=_dotenv())
    if settings.prepare and settings.model_cache is None:
        settings = replace(settings, notices=(*settings.notices, _NO_HOME))
    if settings.model_config is not None:
        from siglip_edge.server.config.catalogue import read_catalogue  # noqa: PLC0415 - PyYAML, where it is needed

        catalogue = read_catalogue(settings.model_config)
        settings = replace(settings, catalogue=catalogue, notices=(*settings.notices, *catalogue.notices))
    return settings


def _dotenv() -> dict[str, str]:
    if not _FILE.exists() or _FILE.is_dir():  # a pipe is a file too; a folder `.env` is somebody's virtual environment
        return {}
    text = read_text(_FILE, "the file .env")
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(text)).items()}
