"""The embedding cache: bounded in bytes, least recently used first, computed once."""

from __future__ import annotations

import pytest

from siglip_edge.server.embedding.cache import ENTRY_OVERHEAD, EmbeddingCache


def put(cache, key, size=100):
    claim = cache.claim(key)
    assert claim.owns
    cache.settle(claim, f"value of {key}", size)


def test_the_least_recently_used_leave_first():
    """With room for two entries, a third entry evicts the least recently used one."""
    cache: EmbeddingCache[str] = EmbeddingCache(2 * (100 + ENTRY_OVERHEAD))
    put(cache, "a")
    put(cache, "b")
    assert cache.claim("a").result(0) == "value of a"
    put(cache, "c")
    assert [cache.claim(key).owns for key in ("a", "b", "c")] == [False, True, False]
    assert cache.bytes == 2 * (100 + ENTRY_OVERHEAD)


def test_a_number_of_entries_is_a_limit_too():
    """Whichever limit is reached first counts; without a limit in bytes, the number alone does."""
    for cache in (EmbeddingCache[str](None, 2), EmbeddingCache[str](10_000, 2)):
        for key in ("a", "b", "c"):
            put(cache, key)
        assert [cache.claim(key).owns for key in ("a", "b", "c")] == [True, False, False]


@pytest.mark.parametrize(("max_bytes", "max_entries"), [(0, 100), (None, 0), (1000, 0)])
def test_either_limit_at_zero_keeps_nothing(max_bytes, max_entries):
    """Each of the two settings disables the cache."""
    cache: EmbeddingCache[str] = EmbeddingCache(max_bytes, max_entries)
    put(cache, "a")
    assert cache.claim("a").owns


def test_a_value_larger_than_everything_is_not_kept():
    """A value that is too large is returned, but evicts no entry."""
    cache: EmbeddingCache[str] = EmbeddingCache(1000)
    put(cache, "small")
    put(cache, "large", size=2000)
    assert not cache.claim("small").owns
    assert cache.claim("large").owns


def test_in_flight_values_are_shared():
    """A second request for the same key waits for the first one's computation."""
    cache: EmbeddingCache[str] = EmbeddingCache(0)
    first, second = cache.claim("a"), cache.claim("a")
    assert (first.owns, second.owns) == (True, False)
    cache.settle(first, "value", 1)
    assert second.result(0) == "value"
    assert cache.claim("a").owns  # nothing is kept


def test_a_failure_is_told_and_not_kept():
    """A waiting request gets the error of the owner; a later request computes again."""
    cache: EmbeddingCache[str] = EmbeddingCache(1000)
    first, second = cache.claim("a"), cache.claim("a")
    cache.give_up(first, ValueError("broken"))
    cache.give_up(second, ValueError("not the owner's"))
    with pytest.raises(ValueError, match="broken"):
        second.result(0)
    assert cache.claim("a").owns


def test_hits_and_misses_are_counted():
    """Only the claim that computes counts as a miss."""
    seen: list[bool] = []
    cache: EmbeddingCache[str] = EmbeddingCache(1000, count=seen.append)
    put(cache, "a")
    cache.claim("a")
    assert seen == [False, True]
