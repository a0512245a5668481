"""How a command says by its exit code what it found, when nothing went wrong."""

__all__ = ["RemarksError"]


class RemarksError(Exception):
    """A command did its work and found what matters, which it has told: exit code 1."""
