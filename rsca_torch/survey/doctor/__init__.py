"""Whether a tree of survey files, or a store, is fit for use, and what to do about it (docs/download.md)."""
