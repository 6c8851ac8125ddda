"""Who is refused when every place is taken, and what they are told."""

from types import SimpleNamespace

import pytest

from siglip_edge.runtime.errors import Overloaded
from siglip_edge.server.http.middleware import AdmissionMiddleware


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def enter(admission):
    request = SimpleNamespace(method="POST", context=SimpleNamespace())
    admission.process_request(request, None)
    return request


def leave(admission, request):
    admission.process_response(request, None, None, True)


def refusal(admission):
    with pytest.raises(Overloaded) as raised:
        enter(admission)
    return raised.value.retry_after_s


def test_the_refused_are_told_how_often_a_place_becomes_free(clock):
    """Nothing waits in the lanes, because images are decoded first: the time that places are held tells the pace."""
    admission = AdmissionMiddleware(2, lambda: 0.0, clock)
    held = [enter(admission), enter(admission)]
    assert refusal(admission) == 0.0, "nothing was measured yet"
    for _ in range(3):
        clock.now += 5
        leave(admission, held.pop(0))
        held.append(enter(admission))
    assert [refusal(admission) for _ in range(3)] == [10.0, 15.0, 20.0]


def test_a_free_place_is_not_waited_for(clock):
    """Time in which not all places were taken says nothing about the pace."""
    admission = AdmissionMiddleware(2, lambda: 3.0, clock)
    first = enter(admission)
    clock.now += 1000
    leave(admission, first)
    held = [enter(admission), enter(admission)]
    assert refusal(admission) == 3.0, "of the lanes"
    leave(admission, held.pop())
    enter(admission)
