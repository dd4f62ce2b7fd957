"""`python -m mwl` is the same as `mwl`."""

import sys

from .cli import main

sys.exit(main())
