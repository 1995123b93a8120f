"""The table of cases: every outcome, every branch of the decision."""

from capguard.testing.conformance.cases import (
    admission,
    asking,
    expiry,
    extending,
    ids,
    names,
    overrun,
    reading,
    releasing,
    retention,
    rolling,
    settling,
    steering,
    time,
)
from capguard.testing.conformance.script import Case

CASES: tuple[Case, ...] = (
    *admission.CASES,
    *steering.CASES,
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
    *names.CASES,
    *reading.CASES,
)

__all__ = ["CASES"]
