"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has.

Its name is in `__init__.pyi`, imported when asked for: processes that start here import `workers`, and torch later.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
