"""Arrays and files: manifest, preprocessing, planning, sessions, scoring. No HTTP, no settings, no global state."""

import os

# Unless this variable is set before the import, onnxruntime from version 1.29 on sends usage data to Microsoft and
# keeps a device id in the user's cache directory. An operator who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
