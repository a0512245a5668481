"""Chemical likeness of stars, learned from open clusters: RSCA as a PyTorch metric-learning framework.

The public names are in `__init__.pyi`; each is imported when it is first asked for, so that nobody waits for what he
does not use.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy

__version__ = _version("rsca_torch")

__getattr__, __dir__, _names = _lazy.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]
