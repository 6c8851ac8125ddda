"""Model directories on disk: the manifest, older manifests, checksums."""
