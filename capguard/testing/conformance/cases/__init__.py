"""The table of cases: every outcome, every branch of the decision."""

from capguard.testing.conformance.cases import (
    admission,
    asking,
    clamping,
    closing,
    expiry,
    extending,
    filling,
    funding,
    ids,
    names,
    overrun,
    policies,
    profiles,
    reading,
    releasing,
    retention,
    rolling,
    settling,
    steering,
    thresholds,
    throttling,
    time,
)
from capguard.testing.conformance.script import Case

CASES: tuple[Case, ...] = (
    *admission.CASES,
    *steering.CASES,
    *clamping.CASES,
    *closing.CASES,
    *throttling.CASES,
    *asking.CASES,
    *ids.CASES,
    *retention.CASES,
    *settling.CASES,
    *overrun.CASES,
    *releasing.CASES,
    *expiry.CASES,
    *extending.CASES,
    *time.CASES,
    *rolling.CASES,
    *funding.CASES,
    *profiles.CASES,
    *policies.CASES,
    *filling.CASES,
    *thresholds.CASES,
    *names.CASES,
    *reading.CASES,
)

__all__ = ["CASES"]
