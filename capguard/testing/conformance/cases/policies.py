"""Published policies: one is in force, and commands carry its revision."""

from __future__ import annotations

from capguard.ledger.commands import Check, PolicyInForce, Publish
from capguard.testing.conformance.builders import cap, journal, reserve
from capguard.testing.conformance.paying import assign, publish
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "a ledger where nothing was published has no policy",
        (PolicyInForce(), "nothing"),
        (PolicyInForce(1), "nothing"),
        (PolicyInForce(0), "nothing"),
    ),
    case(
        "the newest policy is in force, and every earlier one can be read",
        (publish("first"), "policy 1 first"),
        wait(10),
        (publish("second"), "policy 2 second"),
        (PolicyInForce(), "policy 2 second"),
        (PolicyInForce(1), "policy 1 first"),
        (PolicyInForce(2), "policy 2 second"),
        (PolicyInForce(3), "nothing"),
        (journal(), "lines 1:publish:@0 2:publish:@10"),
    ),
    case(
        "what is in force already is not published again; what was in force once is",
        (publish("first"), "policy 1 first"),
        wait(10),
        (publish("first"), "policy 1 first, again"),
        (publish("first", caps=[{"id": "a", "limit": "0.5"}]), "policy 2 first"),
        (publish("first"), "policy 3 first"),
        (journal(), "lines 1:publish:@0 2:publish:@10 3:publish:@10"),
    ),
    case(
        "an empty policy is one too",
        (Publish({}, None), "policy 1 None"),
        (Publish({}, None), "policy 1 None, again"),
        (PolicyInForce(), "policy 1 None"),
    ),
    case(
        "a policy that was written from one that is in force no more changes nothing",
        (publish("first", base=0), "policy 1 first"),
        (publish("mine", base=0), "superseded by 1"),
        (publish("first", base=0), "superseded by 1"),
        (publish("mine", base=1), "policy 2 mine"),
        (publish("theirs", base=1), "superseded by 2"),
        (publish("theirs", base=3), "superseded by 2"),
        (PolicyInForce(), "policy 2 mine"),
        (journal(), "lines 1:publish:@0 2:publish:@0"),
    ),
    case(
        "a command that was built from an older policy is stale, and gets the one in force",
        (publish("first"), "policy 1 first"),
        (reserve("r1", 1, TEN, policy=1), "held"),
        (publish("second"), "policy 2 second"),
        (reserve("r2", 1, TEN, policy=1), "stale at 0, policy 2 second"),
        (Check(reserve("r2", 1, TEN, policy=1)), "stale at 0, policy 2 second"),
        (reserve("r2", 1, TEN, policy=2), "held"),
        (reserve("r1", 1, TEN, policy=1), "held, again"),
        ends={"ten": (0, 2, 0)},
    ),
    case(
        "a command from another ledger's policy is stale too",
        (reserve("r1", 1, TEN, policy=3), "stale at 0, policy 0 None"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a process with a policy of its own never hears of the published one",
        (publish("first"), "policy 1 first"),
        (reserve("r1", 1, TEN), "held"),
        ends={"ten": (0, 1, 0)},
    ),
    case(
        "policy, profile and time are told at once",
        (publish("first"), "policy 1 first"),
        (assign("pro"), "profile 1, plan pro"),
        (reserve("r1", 1, TEN, policy=0, profile=0, valid=(1, 2)), "stale at 0, profile 1, policy 1 first"),
        (reserve("r1", 1, TEN, policy=1, profile=0), "stale at 0, profile 1"),
        (reserve("r1", 1, TEN, policy=0, profile=1), "stale at 0, policy 1 first"),
        (reserve("r1", 1, TEN, policy=1, profile=1), "held"),
        ends={"ten": (0, 1, 0)},
    ),
)
