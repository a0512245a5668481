"""From an archive to a tree of survey files: fetched, checked, and only then under their names (docs/download.md)."""
