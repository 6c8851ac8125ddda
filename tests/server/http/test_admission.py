"""Requests are refused when every place is taken, and are told when to ask again."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from siglip_edge.runtime.errors import DeadlineExceeded, Overloaded
from siglip_edge.server.http.middleware import AdmissionMiddleware
from siglip_edge.server.http.worker_facts import HAS_PLACE

ANY: Any = None


def enter(admission, deadline=math.inf, **environ):
    context = SimpleNamespace(request=SimpleNamespace(deadline=deadline))
    request: Any = SimpleNamespace(method="POST", context=context, env=environ)
    admission.process_request(request, ANY)
    return request


def leave(admission, request):
    admission.process_response(request, ANY, ANY, True)


def test_one_request_more_than_places_is_refused_until_a_place_is_free():
    admission = AdmissionMiddleware(2, lambda: 3.0)
    held = [enter(admission), enter(admission)]
    with pytest.raises(Overloaded) as refusal:
        enter(admission)
    assert 3.0 <= refusal.value.retry_after_s <= 12.0, "after the work that waits"
    leave(admission, held.pop())
    assert enter(admission)


def test_a_worker_that_keeps_requests_waiting_decides():
    """The places of the middleware are for servers without such a worker."""
    admission = AdmissionMiddleware(1, lambda: 3.0)
    held = [enter(admission, **{HAS_PLACE: True}) for _ in range(3)]
    with pytest.raises(Overloaded):
        enter(admission, **{HAS_PLACE: False})
    for request in held:
        leave(admission, request)


def test_a_request_that_waited_too_long_is_not_computed():
    with pytest.raises(DeadlineExceeded):
        enter(AdmissionMiddleware(1, lambda: 3.0), time.monotonic() - 1, **{HAS_PLACE: True})


def test_a_request_without_a_body_needs_no_place():
    admission = AdmissionMiddleware(1, lambda: 3.0)
    enter(admission)
    probe: Any = SimpleNamespace(method="GET", context=SimpleNamespace())
    admission.process_request(probe, ANY)
    leave(admission, probe)
    with pytest.raises(Overloaded):
        enter(admission)
