"""report.html: all of a run on one page that needs no network and no other file."""
