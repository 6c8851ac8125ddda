"""The checks that an artifact passes before it is written."""
