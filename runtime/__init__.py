"""Arrays and files: manifest, preprocessing, planning, sessions, scoring. No HTTP, no environment, no globals."""
