"""`python -m rsca_torch COMMAND` is `rsca COMMAND`."""

import sys

from rsca_torch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
