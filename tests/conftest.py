"""What holds for all tests. That this file lies here also makes ``support`` importable."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is busy with something else must not fail a property.
settings.register_profile("outlast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outlast")
