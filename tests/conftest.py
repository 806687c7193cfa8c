"""What holds for all tests. That this file lies here also makes ``support`` importable."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A machine that is busy with something else must not fail a property.
settings.register_profile("outlast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outlast")

# Who starts the tests in the background may have these ignored, and what is ignored stays so in every process below.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
