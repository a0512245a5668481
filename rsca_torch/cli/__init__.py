"""`rsca COMMAND`: one file a command."""
