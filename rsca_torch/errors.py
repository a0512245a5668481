"""The two things that can go wrong: input that cannot be used, and numerics that had to drop something."""

__all__ = ["InputError", "NumericalWarning"]


class InputError(ValueError):
    """What was given cannot be used; the message says what was expected, what came and what to do.

    The command line prints the message alone and ends with exit code 2.
    """


class NumericalWarning(UserWarning):
    """A computation left something out; the message says how many and why."""
