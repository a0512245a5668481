"""Work that can run side by side."""

from .parallel import Parallel

__all__ = ["Parallel"]
