"""Mutants of the Lua, by who is to see them: a part of the table of cases, or a game. Each is one change."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

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
    overrun,
    policies,
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
from tests.backends import redis_games as games
from tests.backends.redis_games import Game


class Mutant(NamedTuple):
    """In lua/`file`.lua, `old` (its first place) reads `new`."""

    file: str
    old: str
    new: str


def _in(file: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(file, old, new) for old, new in changes]


MUTANTS: Sequence[tuple[ModuleType | Game, Sequence[Mutant]]] = (
    (
        time,
        [
            *_in(
                "store",
                ("now = math.max(now, tonumber(meta[3] or 0))", "now = math.max(now, 0)"),
                ("'now', num(now), ", ""),
            ),
            *_in(
                "reserve",
                (
                    "local answer = not head.check and known() or stale(head)",
                    "local answer = not head.check and known()",
                ),
                ("now < head.valid_until", "now <= head.valid_until"),
            ),
        ],
    ),
    (
        games.the_servers_clock_counts,
        [
            *_in(
                "store",
                (
                    "now = time[1] * 1000 + math.floor(time[2] / 1000)",
                    "now = tonumber(meta[3] or 0) + math.floor(os.clock() * 1000)",
                ),
            ),
        ],
    ),
    (
        games.a_lost_meta,
        [
            *_in(
                "store",
            ),
            *_in(
                "start",
                ("if redis.call('EXISTS', KEYS[i]) == 1 then", "if redis.call('EXISTS', KEYS[i]) == 2 then"),
            ),
        ],
    ),
    (
        games.another_store_in_its_place,
        [
            *_in(
                "store",
                ("  if meta[1] ~= ARGV[2] then return {'epoch', meta[1], seq, size} end\n", ""),
            ),
        ],
    ),
    (
        games.an_older_state,
        [
            *_in(
                "store",
                ("  if seq < tonumber(ARGV[3]) then return {'rewound', seq} end\n", ""),
                ("if seq < tonumber(ARGV[3])", "if seq + 2 < tonumber(ARGV[3])"),
            ),
        ],
    ),
    (
        admission,
        [
            *_in(
                "store",
                ("if seq < tonumber(ARGV[3])", "if seq <= tonumber(ARGV[3])"),
                ("return string.format('%.0f', n)", "return tostring(n)"),
                ("return string.format('%.0f', n)", "return string.format('%.15g', n)"),
                ("if n >= size then n = n - half end", "if n > size then n = n - half end"),
                ("  seq = seq + 1\n", "  seq = seq + 2\n"),
            ),
            *_in(
                "ending",
                (
                    "if holding then settled, held = share, -old end",
                    "if holding then settled, held = share, -share end",
                ),
                ("if holding then settled, held = share, -old end", "if holding then settled, held = share, 0 end"),
                ("record.shares, record.entry = shares, num(seq)", "record.entry = num(seq)"),
            ),
            *_in(
                "judging",
                ("return meter[1] + meter[2] + amount <= fit", "return meter[1] + meter[2] + amount < fit"),
                ("return meter[1] + meter[2] + amount <= fit", "return meter[1] + amount <= fit"),
                ("return meter[1] + meter[2] + amount <= fit", "return meter[2] + amount <= fit"),
                ("return meter[1] + meter[2] + amount <= fit", "return meter[1] + meter[2] <= fit"),
                ("if shares[i] ~= 0 and not fits", "if not fits"),
                (
                    "throttled = throttled and miss.leg[ACTION] == 'throttle'",
                    "throttled = throttled or miss.leg[ACTION] == 'throttle'",
                ),
                ("elseif not row.new then", "else"),
            ),
            *_in(
                "reserve",
                ("local expires = now + head.ttl", "local expires = now + head.ttl + 1"),
            ),
            *_in(
                "settle",
                ("redis.call('HDEL', KEYS[2], ARGV[6])\n", ""),
            ),
            *_in(
                "scan",
                ("ARGV[6] == '1' and redis.call('HGETALL', KEYS[2]) or {}", "{}"),
            ),
        ],
    ),
    (
        games.growing,
        [
            *_in(
                "store",
                ("  if size ~= tonumber(ARGV[4]) then return {'size', size} end\n", ""),
            ),
            *_in(
                "grow",
                ("#fields[i] >= 19", "#fields[i] > 19"),
            ),
        ],
    ),
    (
        games.a_lost_bucket,
        [
            *_in(
                "store",
                ("if redis.call('HGET', key, 'e') ~= meta[1]", "if redis.call('HGET', KEYS[1], 'epoch') ~= meta[1]"),
            ),
        ],
    ),
    (
        games.a_strict_process_starts_no_ledger,
        [
            *_in(
                "start",
                ("if ARGV[6] == '' then return {'void'} end", ""),
            ),
        ],
    ),
    (
        games.no_minus_zero,
        [
            *_in(
                "store",
                ("  if n == 0 then return '0' end\n", ""),
            ),
        ],
    ),
    (
        games.two_grow_at_once,
        [
            *_in(
                "store",
                (
                    "rows = rows + redis.call('HSET', bucket_of(field), field, text)",
                    "redis.call('HSET', bucket_of(field), field, text)",
                ),
                (", 'rows', num(rows))", ")"),
            ),
            *_in(
                "grow",
                ("      redis.call('HSET', KEYS[10], fields[i], fields[i + 1])\n", ""),
                ("      redis.call('HDEL', KEYS[9], fields[i])\n", ""),
                ("bucket_of(fields[i]) == KEYS[10]", "bucket_of(fields[i]) ~= KEYS[9] or i % 4 == 1"),
                (" and KEYS[10] == prefix .. 'b:' .. num(size)", ""),
                ("  redis.call('HSET', KEYS[10], 'e', meta[1])\n", ""),
            ),
            *_in(
                "reserve",
                ("size * 56 - rows", "1"),
            ),
        ],
    ),
    (
        games.settles_grow_too,
        [
            *_in(
                "settle",
                ("size * 56 - rows", "1"),
            ),
        ],
    ),
    (
        games.settled_calls_are_forgotten,
        [
            *_in(
                "ending",
                ("  if string.sub(field, 1, 1) < '2' then tidy(bucket_of(field)) end\n", ""),
            ),
            *_in(
                "store",
                ("rows = rows - redis.call('HDEL', key, field)", "redis.call('HDEL', key, field)"),
                ("over = tonumber(string.match(text, '^%a:(%x+):'), 16)", "over = nil"),
            ),
        ],
    ),
    (
        games.a_rolling_row_stays_while_its_newest_bucket_counts,
        [
            *_in(
                "store",
                ("if over and over <= now then", "if over and over <= now + 60000 then"),
            ),
        ],
    ),
    (
        games.periods_that_are_over_leave,
        [
            *_in(
                "store",
                ("      over = READ[#field](text).gone\n", "      over = nil\n"),
            ),
        ],
    ),
    (
        settling,
        [
            *_in(
                "store",
                ("return rolling(leg) and leg[ENDS] or math.min(FOREVER, leg[ENDS] + KEPT)", "return leg[ENDS]"),
            ),
            *_in(
                "ending",
                (
                    "settled + held + growth - math.max(leg[LIMIT], settled + held)",
                    "settled + growth - math.max(leg[LIMIT], settled)",
                ),
                ("local settled, held = share - old, 0", "local settled, held = share, 0"),
            ),
            *_in(
                "settle",
                ("local late, amounts = record.state ~= 'h'", "local late, amounts = record.state == 'e'"),
                ("local bad = misfit() or overdue()", "local bad = misfit()"),
            ),
            *_in(
                "sweep",
                (
                    "write_open(record, now + record.body.retention_ms)",
                    "write_open(record, record.expires + record.body.retention_ms)",
                ),
            ),
        ],
    ),
    (
        rolling,
        [
            *_in(
                "store",
                (
                    "return rolling(leg) and leg[ENDS] or math.min(FOREVER, leg[ENDS] + KEPT)",
                    "return math.min(FOREVER, leg[ENDS] + KEPT)",
                ),
                ("row.gone = math.max(row.gone, gone_of(leg))", "row.gone = gone_of(leg)"),
                ("if period >= since and period <= till then", "if period > since and period <= till then"),
                ("if period >= since and period <= till then", "if period >= since and period < till then"),
                (
                    "settled, held, overrun = settled + sums[1], held + sums[2], overrun + sums[3]",
                    "settled, held, overrun = settled + sums[1], held, overrun + sums[3]",
                ),
                (
                    "if period + leg[ENDS] - leg[PERIOD] <= now then",
                    "if period + leg[ENDS] - leg[PERIOD] <= now + 1000 then",
                ),
            ),
            *_in(
                "ending",
                ("return now - (leg[ENDS] - leg[PERIOD]) + 1, now", "return now - (leg[ENDS] - leg[PERIOD]), now"),
                ("return now - (leg[ENDS] - leg[PERIOD]) + 1, now", "return now - (leg[ENDS] - leg[PERIOD]) + 2, now"),
                ("return now - (leg[ENDS] - leg[PERIOD]) + 1, now", "return leg[SINCE], leg[PERIOD]"),
            ),
            *_in(
                "extend",
                ("if new > old and refuses(leg) and now < gone_of(leg) then", "if new > old and refuses(leg) then"),
                ("if more ~= 0 and now < gone_of(leg) then", "if more ~= 0 then"),
            ),
            *_in(
                "look",
                ("if now < gone_of(leg) then", "if true then"),
            ),
        ],
    ),
    (
        closing,
        [
            *_in(
                "store",
                ("return ms % 60000 == 0 and", "return ms % 1000 == 0 and"),
                ("return n < 1e10 and n * 60000 or n", "return n"),
                ("row.gone = math.max(row.gone, until_ms + KEPT)", "row.gone = until_ms + KEPT"),
                ("if leg[PERIOD] >= (run.period or 0) then", "if leg[PERIOD] > (run.period or 0) then"),
                ("if run.gone - KEPT > now then", "if run.gone - KEPT >= now then"),
                ("leg[PERIOD], leg[ENDS] = now, now + leg[IDLE]", "leg[PERIOD], leg[ENDS] = now + 1, now + leg[IDLE]"),
                ("    leg[PERIOD], leg[SINCE], leg[ENDS] = run[1], run[1], run[2]\n", ""),
            ),
            *_in(
                "ending",
                ("if holding and kind == 'settle' and leg[IDLE]", "if holding and leg[IDLE]"),
                (
                    "leg[IDLE] > 0 then keep(leg, now + leg[IDLE]) end",
                    "false then return end",
                ),
                ("    if now < gone_of(leg) then\n      if excess > 0", "    if true then\n      if excess > 0"),
            ),
            *_in(
                "reserve",
                ("head.book and 0 or expires + head.grace))", "0))"),
            ),
            *_in(
                "extend",
                ("keep(leg, math.max(now + leg[IDLE], due))", "keep(leg, now + leg[IDLE])"),
            ),
            *_in(
                "look",
                ("  on_run(leg)\n", ""),
            ),
        ],
    ),
    (
        games.rolling_rows_stay_short,
        [
            *_in(
                "store",
                ("if period + leg[ENDS] - leg[PERIOD] <= now then", "if false then"),
            ),
        ],
    ),
    (
        games.a_lost_bucket_that_only_the_meters_need,
        [
            *_in(
                "store",
                ("if not given[bucket_of(leg[METER])] then return false end", ""),
            ),
        ],
    ),
    (
        games.more_is_overdue_than_one_step_ends,
        [
            *_in(
                "store",
                ("if ARGV[5] == '1' then return nil end", ""),
            ),
        ],
    ),
    (
        ids,
        [
            *_in(
                "store",
                ("'-inf', num(now), 'LIMIT', 0, 100)", "'-inf', '(' .. num(now), 'LIMIT', 0, 100)"),
            ),
            *_in(
                "ending",
                (
                    "redis.call('ZADD', KEYS[3], num(due), record.id)",
                    "redis.call('ZADD', KEYS[3], num(record.expires), record.id)",
                ),
                ("record.shares, record.entry = shares, num(seq)", "record.shares = shares"),
                (
                    "state, forgotten, made, entry, num(usd), fingerprint)\n  put",
                    "state, forgotten, made, made, num(usd), fingerprint)\n  put",
                ),
            ),
            *_in(
                "reserve",
                ("  if text then return {'known', text, ''} end\n", ""),
                ("local answer = not head.check and known() or stale(head)", "local answer = stale(head)"),
                (
                    "local answer = not head.check and known() or stale(head)",
                    "local answer = stale(head) or not head.check and known()",
                ),
                ("head.valid_from <= now", "head.valid_from < now"),
                ("local bad = misfit() or overdue()", "local bad = misfit()"),
            ),
            *_in(
                "settle",
                ("if row and string.sub(row, 1, 1) == 's' and", "if row and"),
                (
                    "remember(ARGV[7], 's', forgotten, record.made, seq + 1,",
                    "remember(ARGV[7], 's', forgotten, record.made, seq,",
                ),
            ),
            *_in(
                "release",
                ("    remember(ARGV[7], 't', now + tonumber(ARGV[8]), 0, 0, 0, '')\n", ""),
            ),
            *_in(
                "sweep",
                ("if due and tonumber(due) <= now then", "if due and tonumber(due) < now then"),
                ("record.body.on_expiry == 'charge_expected' and", "record.body.on_expiry == 'release' and"),
                ("  record.state = 'e'\n", "  record.state = 'h'\n"),
            ),
        ],
    ),
    (
        funding,
        [
            *_in(
                "ending",
                (
                    "for i = #record.body.legs + 1, #record.shares do own",
                    "for i = #record.body.legs + 2, #record.shares do own",
                ),
            ),
            *_in(
                "paying",
                ("math.min(left, math.max(0, rooms[i]))", "math.min(left, rooms[i])"),
                (
                    "if leg[OVERAGE_ONLY] then amount = amount - included end",
                    "if leg[OVERAGE_ONLY] then amount = amount - granted end",
                ),
                ("if leg[IGNORE_GRANTS] then amount = amount - granted end", ""),
                ("if leg[UNIT] == unit then", "if true then"),
                ("if grant.revoked_ms then revoked[grant.id] = true end", ""),
                ("now >= source[ENDS]", "now > source[ENDS]"),
                (
                    "if grant and (revoked[source[CAP]] or now >= source[ENDS]) then",
                    "if grant and revoked[source[CAP]] then",
                ),
                (
                    "math.max(own[i], source[LIMIT] - settled - held + own[i])",
                    "source[LIMIT] - settled - held + own[i]",
                ),
                (
                    "math.max(own[i], source[LIMIT] - settled - held + own[i])",
                    "math.max(own[i], source[LIMIT] - settled - held)",
                ),
                (
                    "math.max(own[i], source[LIMIT] - settled - held + own[i])",
                    "math.max(own[i], source[LIMIT] - settled + own[i])",
                ),
            ),
            *_in(
                "judging",
                ("fit.rooms[i] = source[LIMIT] - settled - held", "fit.rooms[i] = source[LIMIT] - settled"),
                ("to > index and to <= #candidates", "to > index and to < #candidates"),
                ("to > index and to <= #candidates", "to >= index + 2 and to <= #candidates"),
            ),
            *_in(
                "reserve",
                ("~= head.profile", "< head.profile"),
            ),
        ],
    ),
    (
        thresholds,
        [
            *_in(
                "ending",
                ("math.ceil(rest * ppm / FULL_PPM)", "math.floor(rest * ppm / FULL_PPM)"),
                (
                    "(limit - rest) / FULL_PPM * ppm + math.ceil(rest * ppm / FULL_PPM)",
                    "math.ceil(limit * ppm / FULL_PPM)",
                ),
                ("(limit - rest) / FULL_PPM * ppm + math.ceil", "math.ceil"),
                ("return (limit - rest) / FULL_PPM * ppm", "return 1 + (limit - rest) / FULL_PPM * ppm"),
                ("num(now), member) == 1", "num(now), member) >= 0"),
                ("if growth > 0 and not rolling(leg) then", "if growth > 0 then"),
                ("source and {FULL_PPM} or thresholds", "thresholds"),
                ("settled - growth < mark and mark <= settled", "settled - growth <= mark and mark <= settled"),
                ("settled - growth < mark and mark <= settled", "settled - growth < mark and mark < settled"),
                ("settled - growth < mark and mark <= settled", "mark <= settled"),
            ),
            *_in(
                "paying",
                ("math.min(left, math.max(0, rooms[i]))", "math.max(0, rooms[i])"),
                ("    left = left - draw\n", ""),
            ),
            *_in(
                "sweep",
                ("crossed[#crossed + 1] = {which,", "crossed[#crossed + 1] = {0,"),
            ),
        ],
    ),
    (
        games.old_alerts_and_refusals_leave,
        [
            *_in(
                "ending",
                ("num(now - 400 * 86400000)", "num(now - 86400000)"),
                ("  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', num(now - 400 * 86400000))\n", ""),
            ),
            *_in(
                "reserve",
                ("    redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', num((minute - 43200) * 16777216))\n", ""),
            ),
        ],
    ),
    (
        overrun,
        [
            *_in(
                "ending",
                (
                    "settled + held + growth - math.max(leg[LIMIT], settled + held)",
                    "settled + held + growth - leg[LIMIT]",
                ),
                (
                    "overrun[leg[UNIT]] = math.max(excess, overrun[leg[UNIT]] or 0)",
                    "overrun[leg[UNIT]] = excess + (overrun[leg[UNIT]] or 0)",
                ),
                ("overrun[leg[UNIT]] = math.max(excess, overrun[leg[UNIT]] or 0)", "overrun[leg[UNIT]] = excess"),
            ),
            *_in(
                "judging",
                ("return meter[1] + meter[2] + amount <= fit", "return meter[1] + meter[2] - meter[3] + amount <= fit"),
            ),
        ],
    ),
    (
        steering,
        [
            *_in(
                "ending",
                ("if excess > 0 and ENFORCING[leg[ACTION]] then", "if excess > 0 then"),
            ),
            *_in(
                "judging",
                ("step = math.max(step, to)", "step = to"),
                ("elseif not told[miss.leg[METER]] then", "else"),
                ("    told[miss.leg[METER]] = true\n", ""),
            ),
            *_in(
                "reserve",
                ("local comma = ARGV[9] == '{' and '' or ','", "local comma = ','"),
            ),
        ],
    ),
    (
        extending,
        [
            *_in(
                "judging",
                (" or (leg[ACTION] == 'downgrade' and leg[OTHERWISE] == 'block')", ""),
                ("and leg[OTHERWISE] == 'block')", ")"),
            ),
            *_in(
                "extend",
                ("wanted[i] = math.max(share, record.shares[i])", "wanted[i] = share"),
                ("total[unit] = held > 0 and", "total[unit] ="),
                (
                    "if new > old and refuses(leg) and now < gone_of(leg) then",
                    "if new > old and now < gone_of(leg) then",
                ),
                ("if new > old and refuses(leg) and", "if refuses(leg) and"),
                ("if settled + held + new - old > leg[LIMIT] then", "if settled + held + new - old >= leg[LIMIT] then"),
                ("settled, held - old, overrun, 0}", "settled, held, overrun, 0}"),
                ("record.body.created_ms + math.max(0, tonumber(ARGV[8]))", "now + math.max(0, tonumber(ARGV[8]))"),
                ("if record.state ~= 'h' then return {'ended', record.text} end\n", ""),
                ("local bad = misfit() or overdue()", "local bad = misfit()"),
            ),
        ],
    ),
    (
        clamping,
        [
            *_in(
                "judging",
                ("local CLAMP_SHARE = 2", "local CLAMP_SHARE = 1"),
                ("(rest > 0 and 1 or 0)", "0"),
                ("local high = scale.output - 1", "local high = scale.output - 2"),
                ("low = math.max(low, miss.leg[MIN_OUTPUT])", "low = miss.leg[MIN_OUTPUT]"),
                ("if #shortest > 0 then verdict.refused = shortest end", ""),
            ),
            *_in(
                "reserve",
                ("expected[unit] = math.min(amount, verdict.held[unit] or amount)", "expected[unit] = amount"),
            ),
        ],
    ),
    (
        throttling,
        [
            *_in(
                "judging",
                ("or shares[i] > most then", "or shares[i] >= most then"),
                ("if lacking <= 0 then break end", "if lacking < 0 then break end"),
                ("    table.sort(periods)\n", "    table.sort(periods, function(a, b) return a > b end)\n"),
                ("miss.frees = leg[ENDS] - (leg[PERIOD] - period)", "miss.frees = leg[ENDS]"),
            ),
            *_in(
                "reserve",
                (
                    "    redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -100001)\n",
                    "    redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -2)\n",
                ),
                ("or miss.amount > miss.leg[LIMIT] then", "then"),
                ("or miss.amount > miss.leg[LIMIT] then", "or miss.amount >= miss.leg[LIMIT] then"),
                (
                    "if not head.check and not (head.waits and waits(verdict.refused)) then",
                    "if not (head.waits and waits(verdict.refused)) then",
                ),
                ("if not head.check and not (head.waits and waits(verdict.refused)) then", "if not head.check then"),
                ("for _, miss in ipairs(verdict.refused) do deny(miss.leg) end", "deny(verdict.refused[1].leg)"),
            ),
        ],
    ),
    (
        asking,
        [
            *_in(
                "reserve",
                ("local answer = not head.check and known() or stale(head)", "local answer = known() or stale(head)"),
            ),
            *_in(
                "release",
                ("if not row or tonumber(string.match(row, '^%a:(%x+):'), 16) <= now then", "if true then"),
            ),
        ],
    ),
    (
        retention,
        [
            *_in(
                "reserve",
                ("'^%a:(%x+):'), 16) > now then return {'known'", "'^%a:(%x+):'), 16) >= now then return {'known'"),
                ("'^%a:(%x+):'), 16) > now then return {'known'", "'^%a:(%x+):'), 16) > now + 1 then return {'known'"),
                ("head.book and share or 0, head.book and 0 or share, 0)", "0, share, 0)"),
                ("now + head.retention, seq + 1, seq + 1,", "now + head.retention, seq, seq,"),
            ),
            *_in(
                "settle",
                ("16) > now then", "16) >= now then"),
                (
                    "local forgotten = now + record.body.retention_ms",
                    "local forgotten = record.body.created_ms + record.body.retention_ms",
                ),
            ),
            *_in(
                "release",
                ("if not row or tonumber(string.match(row, '^%a:(%x+):'), 16) <= now then", "if not row then"),
                (
                    "write_open(record, now + record.body.retention_ms)",
                    "write_open(record, record.body.created_ms + record.body.retention_ms)",
                ),
            ),
            *_in(
                "extend",
                ("16) > now then", "16) >= now then"),
            ),
            *_in(
                "sweep",
                ("      redis.call('HDEL', KEYS[2], ARGV[i])\n", ""),
            ),
            *_in(
                "fetch",
                ("16) <= now then row = '' end", "16) < now then row = '' end"),
            ),
        ],
    ),
    (
        policies,
        [
            *_in(
                "reserve",
                ("local old_policy = head.policy >= 0 and policy ~= head.policy", "local old_policy = false"),
            ),
            *_in(
                "fetch",
                ("ARGV[9] ~= '' and ARGV[9] or meta[6]", "meta[6]"),
            ),
        ],
    ),
    (
        reading,
        [
            *_in(
                "reserve",
                ("local minute, cap = (now - now % 60000) / 60000", "local minute, cap = (now - now % 1000) / 60000"),
                ("    redis.call('ZINCRBY', KEYS[7], 1, member)\n", ""),
                ("num((minute - 43200) * 16777216))", "num((minute - 1) * 16777216))"),
            ),
        ],
    ),
    (
        expiry,
        [
            *_in(
                "reserve",
                ("local crossed = head.check and {} or hold(head, verdict)", "local crossed = hold(head, verdict)"),
            ),
            *_in(
                "settle",
                ("late and ARGV[10] or ARGV[9]", "ARGV[9]"),
            ),
            *_in(
                "sweep",
                ("expected = charge and record.body.expected or {}", "expected = charge and record.body.held or {}"),
            ),
            *_in(
                "look",
                ("local bad = misfit() or overdue()", "local bad = misfit()"),
            ),
        ],
    ),
    (
        releasing,
        [
            *_in(
                "reserve",
                ("shares = verdict.shares}, expires + head.grace)", "shares = verdict.shares}, expires)"),
            ),
            *_in(
                "release",
                ("if record.state == 'r' then return {'released', 0} end\n", ""),
                ("local bad = misfit() or overdue()", "local bad = misfit()"),
            ),
            *_in(
                "extend",
                ("if settled + held + new - old > leg[LIMIT] then", "if settled + held + new > leg[LIMIT] then"),
                ("record.expires = math.max(record.expires, ", "record.expires = math.max(0, "),
            ),
        ],
    ),
    (
        games.tombstones_are_forgotten,
        [
            *_in(
                "release",
                ("    redis.call('HSET', KEYS[1], 'rows', num(rows))\n", ""),
            ),
        ],
    ),
    (
        games.two_publish,
        [
            *_in(
                "publish",
                ("if meta[6] ~= ARGV[6] or", "if"),
            ),
        ],
    ),
    (
        games.an_entry_overtakes_a_fill,
        [
            *_in(
                "publish",
                ("(ARGV[9] ~= '' and num(seq) ~= ARGV[9])", "false"),
            ),
        ],
    ),
    (
        filling,
        [
            *_in(
                "publish",
                ("local PAGE = 500", "local PAGE = 499"),
                ("if not there then", "if true then"),
                ("if rolling(leg) then there = row.window[leg[PERIOD]] ~= nil end", ""),
                ("num(tonumber(ARGV[6]) + 1)", "num(tonumber(ARGV[6]) + 2)"),
            ),
        ],
    ),
    (
        games.two_steer_one_user,
        [
            *_in(
                "steer",
                ("if string.match(text, '^(%d+):') ~= ARGV[7] then return {'overtaken'} end\n", ""),
            ),
        ],
    ),
    (
        games.a_task_that_hears_late_of_missing_room,
        [
            *_in(
                "grow",
                (" and size * 56 < rows", ""),
            ),
        ],
    ),
    (
        games.garbage_is_no_zero,
        [
            *_in(
                "store",
                ("  if not seq or not rows or not size or size < 1 then return {'lost', KEYS[1]} end\n", ""),
                ("  if not gone then error('a meter that reads ' .. text) end -- never taken for 0\n", ""),
            ),
        ],
    ),
)
