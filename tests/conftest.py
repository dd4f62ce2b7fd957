"""Hypothesis profiles: `default` for every run, `fuzz` (HYPOTHESIS_PROFILE=fuzz) for a long search."""

import os

from hypothesis import HealthCheck, settings

_EXAMPLES = 40

settings.register_profile("default", max_examples=_EXAMPLES, deadline=None, derandomize=True)
settings.register_profile(
    "fuzz", max_examples=50 * _EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
