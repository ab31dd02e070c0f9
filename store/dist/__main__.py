"""``python -m store.dist`` is ``dist``."""

from __future__ import annotations

import sys

from store.dist.cli import main

if __name__ == "__main__":
    sys.exit(main())
