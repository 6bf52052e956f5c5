"""``outside.py FOLDER ARGUMENTS``: runs ``engine ARGUMENTS`` with the plugins that are in a folder."""

from __future__ import annotations

import sys

from engine.cli import main

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(sys.argv[2:])
