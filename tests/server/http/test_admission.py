"""Requests are refused when every place is taken, and are told when to ask again."""

from types import SimpleNamespace
from typing import Any

import pytest

from siglip_edge.runtime.errors import Overloaded
from siglip_edge.server.http.middleware import AdmissionMiddleware

ANY: Any = None


def enter(admission):
    request: Any = SimpleNamespace(method="POST", context=SimpleNamespace())
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


def test_a_request_without_a_body_needs_no_place():
    admission = AdmissionMiddleware(1, lambda: 3.0)
    enter(admission)
    probe: Any = SimpleNamespace(method="GET", context=SimpleNamespace())
    admission.process_request(probe, ANY)
    leave(admission, probe)
    with pytest.raises(Overloaded):
        enter(admission)
