"""Limits that follow from other limits, and those that contradict each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from siglip_edge.server.config.variables import SettingsInvalid

if TYPE_CHECKING:
    from siglip_edge.server.config.settings import Settings


def following(settings: Settings, names: Collection[str]) -> dict[str, Any]:
    """-> the limits that follow from those that are set. They count where they are not set themselves.

    `names`: fields of the settings that are set; the others have their defaults.
    """
    return {
        "threads": max(settings.threads, settings.batch_size),
        "batch_size": min(settings.batch_size, settings.threads),
        "max_batch_size": min(settings.max_batch_size, settings.max_queue_size),
        "max_queue_size": max(settings.max_queue_size, settings.max_batch_size),
        "max_waiting_requests": _waiting(settings, queue_is_limited="max_queue_size" in names),
        "embedding_cache_bytes": settings.embedding_cache_bytes if settings.embedding_cache_size is None else None,
    }


def _waiting(settings: Settings, *, queue_is_limited: bool) -> int | None:
    if settings.queue_overflow_action == "wait":
        return None
    return settings.max_queue_size if queue_is_limited else settings.max_waiting_requests


def check(settings: Settings) -> None:
    """Raise SettingsInvalid for settings that contradict each other."""
    # With fewer requests than rows per batch, requests of one row could never fill a batch.
    if settings.threads < settings.batch_size:
        raise SettingsInvalid(
            f"THREADS={settings.threads} is less than BATCH_SIZE={settings.batch_size}; allowed: at least as many"
        )
    if settings.max_queue_size < settings.max_batch_size:
        raise SettingsInvalid(
            f"MAX_QUEUE_SIZE={settings.max_queue_size} is less than MAX_BATCH_SIZE={settings.max_batch_size}; "
            "allowed: at least as many, or the largest request could never be admitted"
        )
    if settings.text_template is not None and settings.accept_token_ids:
        raise SettingsInvalid(
            "TEXT_TEMPLATE with ACCEPT_TOKEN_IDS=true: token ids cannot be put into a sentence; set only one"
        )
