"""Where a pip is that can fill a virtual environment from outside.

Keeps: standard library only; never installs anything itself. Many bare systems have Python without pip in it but with
the wheel that their package of the venv module carries.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys


def pip_command() -> list[str] | None:
    """Return the start of a command line that runs pip (22.3 or newer, for `--python`), or None where there is none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    places = ["/usr/share/python-wheels"]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled and bundled.origin:
        places.insert(0, os.path.join(os.path.dirname(bundled.origin), "_bundled"))
    for place in places:
        for wheel in sorted(glob.glob(os.path.join(place, "pip-*.whl")), reverse=True):
            return [sys.executable, os.path.join(wheel, "pip")]
    return None
