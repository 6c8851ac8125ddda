"""The encoders that people run: `models.toml` has what is known of them, `measured.json` what was measured here."""
