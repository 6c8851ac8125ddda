"""Keys of the WSGI environment under which this project's gunicorn worker tells the app about a request."""

from __future__ import annotations

ARRIVED = "siglip_edge.arrived"
"""When the request's head was whole, on the clock of time.monotonic(): it may have waited for a thread since."""

HAS_PLACE = "siglip_edge.has_place"
"""Whether the request may embed. False: as many requests as may are computed or wait."""

WAITING = "siglip_edge.waiting"
"""Number of requests that wait for a thread."""
