"""Has Python say that it runs on a Mac, to the modules of Ansible that bin/python3 starts and to nothing that they start.

Keeps: sys.platform stays what it is, because psutil, fcntl and pip go by it, and they must work on the Linux underneath.
"""

import os
import platform

# What is started from here, above all pip and the node's own Python, is to know the system as it is.
os.environ.pop("PYTHONPATH", None)

_linux = os.uname


def _darwin() -> os.uname_result:
    real = _linux()
    machine = {"aarch64": "arm64"}.get(real.machine, real.machine)
    return os.uname_result(("Darwin", real.nodename, "23.6.0", "Darwin Kernel Version 23.6.0: a double", machine))


os.uname = _darwin
platform.libc_ver = lambda *_, **__: ("", "")
