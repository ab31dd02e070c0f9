"""The `contentfs` command, with an fsync left out where the environment says so."""

from __future__ import annotations

import sys

from fusefs.cli import main
from tests.reliability.power import leftout

if __name__ == "__main__":
    leftout.install()
    sys.exit(main())
