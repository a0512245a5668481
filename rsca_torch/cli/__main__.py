"""`python -m rsca_torch.cli COMMAND` is `rsca COMMAND`."""

import sys

from rsca_torch.cli.main import main

sys.exit(main())
