"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has."""

from rsca_torch.parallel.parallel import Parallel

__all__ = ["Parallel"]
