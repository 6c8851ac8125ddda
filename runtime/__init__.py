"""Arrays and files: manifest, preprocessing, planning, sessions, scoring. No HTTP, no environment, no globals."""

import os

# From 1.29 on onnxruntime sends what it runs to Microsoft, and keeps a device id in the user's cache directory, unless
# this is set before it is imported. An operator who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
