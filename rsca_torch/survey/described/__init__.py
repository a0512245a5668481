"""Surveys that a description says how to read, and arrays of one's own (docs/own-data.md)."""
