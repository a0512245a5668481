"""Plugins that turn latents, or spectra, into a metric; their names are in `__init__.pyi`, imported when asked for."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
