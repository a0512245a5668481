"""The two things that can go wrong: input that cannot be used, and numerics that had to drop something."""

__all__ = ["InputError", "NumericalWarning"]


class InputError(ValueError):
    """What was given cannot be used; the message says what was expected, what came and what to do.

    The command line prints the message alone and ends with exit code 2.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> ScaledComponents(top=0)
        Traceback (most recent call last):
        ...
        rsca_torch.errors.InputError: top must be at least 1 dimension, got 0
    """


class NumericalWarning(UserWarning):
    """A computation left something out; the message says how many and why.

    Examples:
        >>> import warnings
        >>> from rsca_torch import NumericalWarning, Scaled
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()
        >>> stars.members[::2, 0] += 99  # siblings that are not alike at all in one latent
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always", NumericalWarning)
        ...     Scaled().initialise(stars.field, stars.members, stars.clusters)
        >>> print(said[0].message)
        1 of 6 dimensions spread as much inside clusters as in the field: weight 0
    """
