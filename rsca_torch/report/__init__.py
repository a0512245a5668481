"""Results as files, tables and pictures."""
