"""The virtual environment that the image's install command makes."""

from tests.test_installation import environment  # noqa: F401 - a fixture
