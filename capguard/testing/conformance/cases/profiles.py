"""Profiles: what is steered for one user, with a revision that every command carries."""

from __future__ import annotations

from capguard.ledger.commands import Check, Profile
from capguard.testing.conformance.builders import cap, journal, reserve, settle
from capguard.testing.conformance.paying import assign, clear_override, copied, give, override, revoke
from capguard.testing.conformance.script import case, wait

TEN = cap("ten", 10)

CASES = (
    case(
        "a user whom nobody steered has an empty profile",
        (Profile("u1"), "profile 0"),
        (reserve("r1", 1, TEN), "held"),
        ends={"ten": (0, 1, 0)},
    ),
    case(
        "a grant is made once, however often it is sent",
        (give("g1", 5), "profile 1, grants g1"),
        wait(10),
        (give("g1", 5), "profile 1, grants g1, again"),
        (give("g2", 5), "profile 2, grants g1 g2"),
        (give("g1", 5, by="somebody else"), "profile 2, grants g1 g2, again"),
        (Profile("u1"), "profile 2, grants g1 g2"),
        (journal(), "lines 1:grant:g1@0 2:grant:g2@10"),
    ),
    *(
        case(
            f"a grant of the same name is a mismatch with {what}, and changes nothing",
            (give("g1", 5, until=60), "profile 1, grants g1"),
            (command, "mismatch settled"),
            (Profile("u1"), "profile 1, grants g1"),
            (journal(), "lines 1:grant:g1@0"),
        )
        for what, command in (
            ("another amount", give("g1", 6, until=60)),
            ("another end", give("g1", 5, until=61)),
            ("no end", give("g1", 5)),
        )
    ),
    case(
        "a grant says which are used up by now; its repeat changes nothing, whatever it says of them",
        (give("g1", 5), "profile 1, grants g1"),
        (give("g2", 5, used_up=["g1"]), "profile 2, grants g1 g2, spent g1"),
        (give("g2", 5), "profile 2, grants g1 g2, spent g1, again"),
        (give("g1", 5, used_up=["g2"]), "profile 2, grants g1 g2, spent g1, again"),
        (give("g1", 6), "mismatch settled"),
        (give("g3", 5, used_up=["g1", "g2"]), "profile 3, grants g1 g2 g3, spent g1 g2"),
        (revoke("g3"), "profile 4, grants g1 g2 -g3, spent g1 g2"),
        (give("g4", 5), "profile 5, grants g1 g2 -g3 g4"),
        (Profile("u1"), "profile 5, grants g1 g2 -g3 g4"),
    ),
    case(
        "a grant is revoked once, stays on record, and does not come back",
        (give("g1", 5), "profile 1, grants g1"),
        (give("g2", 5), "profile 2, grants g1 g2"),
        (revoke("g1"), "profile 3, grants -g1 g2"),
        wait(10),
        (revoke("g1"), "profile 3, grants -g1 g2, again"),
        (give("g1", 5), "profile 3, grants -g1 g2, again"),
        (give("g1", 6), "mismatch settled"),
        (Profile("u1"), "profile 3, grants -g1 g2"),
    ),
    case(
        "a grant that was never made cannot be revoked",
        (revoke("g1"), "unknown"),
        (give("g1", 5, user="u2"), "profile 1, grants g1"),
        (revoke("g1"), "unknown"),
        (Profile("u1"), "profile 0"),
        (Profile("u2"), "profile 1, grants g1"),
    ),
    case(
        "an override replaces the one of the same cap and stands beside those of others",
        (override("a", 5), "profile 1, over a=5"),
        (override("b", 6), "profile 2, over a=5 b=6"),
        (override("b", 6), "profile 2, over a=5 b=6, again"),
        (override("a", 7), "profile 3, over b=6 a=7"),
        (override("a", 8, user="u2"), "profile 1, over a=8"),
        (Profile("u1"), "profile 3, over b=6 a=7"),
    ),
    case(
        "one override is cleared, or all of them",
        (override("a", 5), "profile 1, over a=5"),
        (override("b", 6), "profile 2, over a=5 b=6"),
        (override("c", 7), "profile 3, over a=5 b=6 c=7"),
        (clear_override("b"), "profile 4, over a=5 c=7"),
        (clear_override("b"), "profile 4, over a=5 c=7, again"),
        (clear_override(), "profile 5"),
        (clear_override(), "profile 5, again"),
        (Profile("u1"), "profile 5"),
    ),
    case(
        "a user is on one plan, or on none of its own",
        (assign("pro"), "profile 1, plan pro"),
        (assign("pro"), "profile 1, plan pro, again"),
        (assign("free"), "profile 2, plan free"),
        (assign(None), "profile 3, plan None"),
        (Profile("u1"), "profile 3, plan None"),
    ),
    case(
        "a whole profile takes the place of what was there",
        (assign("pro"), "profile 1, plan pro"),
        (override("a", 5), "profile 2, plan pro, over a=5"),
        (copied({"plan": "free"}), "profile 3, plan free"),
        (copied({"plan": "free"}), "profile 3, plan free, again"),
        (Profile("u1"), "profile 3, plan free"),
    ),
    case(
        "changes of one kind leave the others",
        (assign("pro"), "profile 1, plan pro"),
        (override("a", 5), "profile 2, plan pro, over a=5"),
        (give("g1", 5), "profile 3, plan pro, over a=5, grants g1"),
        (revoke("g1"), "profile 4, plan pro, over a=5, grants -g1"),
        (assign("free"), "profile 5, plan free, over a=5, grants -g1"),
        (clear_override(), "profile 6, plan free, grants -g1"),
        (
            journal(user="u1"),
            "lines 1:assign:@0 2:override:@0 3:grant:g1@0 4:revoke:g1@0 5:assign:@0 6:clear_override:@0",
        ),
        (journal(user="u2"), "lines"),
    ),
    case(
        "a command that was built from an older profile is stale, and gets the one in force",
        (assign("pro"), "profile 1, plan pro"),
        (reserve("r1", 1, TEN), "stale at 0, profile 1"),
        (Check(reserve("r1", 1, TEN)), "stale at 0, profile 1"),
        (reserve("r1", 1, TEN, profile=1), "held"),
        (assign("free"), "profile 2, plan free"),
        (reserve("r2", 1, TEN, profile=1), "stale at 0, profile 2"),
        (reserve("r2", 1, TEN, profile=2), "held"),
        (Check(reserve("r3", 1, TEN, profile=2)), "held"),
        ends={"ten": (0, 2, 0)},
    ),
    case(
        "a command from another ledger's profile is stale too",
        (reserve("r1", 1, TEN, profile=3), "stale at 0, profile 0"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "a command that is out of its time is stale for that alone",
        (assign("pro"), "profile 1, plan pro"),
        (reserve("r1", 1, TEN, profile=1, valid=(1, 2)), "stale at 0"),
        (reserve("r1", 1, TEN, profile=0, valid=(1, 2)), "stale at 0, profile 1"),
        ends={"ten": (0, 0, 0)},
    ),
    case(
        "what was held before a change is replayed, settled and not stale",
        (reserve("r1", 4, TEN), "held"),
        (assign("pro"), "profile 1, plan pro"),
        (reserve("r1", 4, TEN), "held, again"),
        (settle("r1", 3), "settled 3"),
        ends={"ten": (3, 0, 0)},
    ),
    case(
        "a change of one user makes no other call stale, nor those without a user",
        (assign("pro", user="u2"), "profile 1, plan pro"),
        (reserve("r1", 1, TEN), "held"),
        (reserve("r2", 1, TEN, user=None), "held"),
        (reserve("r3", 1, TEN, user="u2"), "stale at 0, profile 1"),
        ends={"ten": (0, 2, 0)},
    ),
)
