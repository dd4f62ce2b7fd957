"""`python -m dulproto` does what the `dulproto` command does."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
