"""Lets ``python bench`` and ``python -m bench`` do the same."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # as a folder: what Python puts first on its path is the folder itself
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.main import main

sys.exit(main())
