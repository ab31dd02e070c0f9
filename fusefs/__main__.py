"""`python -m fusefs` is `contentfs`."""

from __future__ import annotations

import sys

from fusefs.cli import main

if __name__ == "__main__":
    sys.exit(main())
