-- The ledger in one file. Times are milliseconds since the epoch, amounts integer parts of their unit.

-- A meter: one cap, one identity, one period. `key` says which, the words beside it are for people.
CREATE TABLE meter (
  key     TEXT    NOT NULL,
  period  INTEGER NOT NULL,                       -- the instant at which the period starts
  settled INTEGER NOT NULL CHECK (settled >= 0),
  held    INTEGER NOT NULL CHECK (held >= 0),
  overrun INTEGER NOT NULL CHECK (overrun >= 0),
  cap     TEXT    NOT NULL,
  unit    TEXT    NOT NULL,
  scope   TEXT    NOT NULL,                       -- JSON: whom it counts
  gone    INTEGER NOT NULL,                       -- when it is closed for good, and dropped
  PRIMARY KEY (key, period)
) STRICT, WITHOUT ROWID;
CREATE INDEX meter_gone ON meter (gone);

-- The journal: append-only. What a meter shows is the sum of the moves in these bodies.
CREATE TABLE entry (
  seq  INTEGER PRIMARY KEY AUTOINCREMENT,
  at   INTEGER NOT NULL,
  kind TEXT    NOT NULL,
  id   TEXT    NOT NULL,                          -- the reservation
  user TEXT,
  body TEXT    NOT NULL                           -- JSON
) STRICT;
CREATE INDEX entry_user ON entry (user) WHERE user IS NOT NULL;
CREATE TRIGGER entry_is_final BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entry_is_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- The state of a reservation that is remembered; what never changes of it is the body of its entry.
CREATE TABLE reservation (
  id          TEXT    PRIMARY KEY,
  fingerprint TEXT    NOT NULL,
  state       TEXT    NOT NULL CHECK (state IN ('held', 'settled', 'released', 'expired', 'tombstone')),
  entry       INTEGER,                            -- the entry that made it; NULL for a tombstone
  expires     INTEGER NOT NULL,
  due         INTEGER NOT NULL,                   -- a hold: when it ends without its owner; else: when it is forgotten
  change      TEXT    NOT NULL                    -- JSON: amounts after an extension, the booking after the end
) STRICT, WITHOUT ROWID;
CREATE INDEX reservation_due ON reservation (due);

-- Refusals, counted per meter and minute.
CREATE TABLE denial (
  key    TEXT    NOT NULL,
  minute INTEGER NOT NULL,
  count  INTEGER NOT NULL,
  cap    TEXT    NOT NULL,
  scope  TEXT    NOT NULL,
  PRIMARY KEY (key, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX denial_minute ON denial (minute);

-- What was said of one user at run time: plan, overrides, grants. JSON, with a revision that commands carry.
CREATE TABLE profile (
  user     TEXT    PRIMARY KEY,
  revision INTEGER NOT NULL,
  body     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Every policy that was published; the newest is in force.
CREATE TABLE policy (
  revision INTEGER PRIMARY KEY,
  document TEXT    NOT NULL,
  at       INTEGER NOT NULL,
  by       TEXT,
  why      TEXT,
  since    TEXT    NOT NULL                       -- JSON: from when on caps count that came in later, by their kinds
) STRICT;

-- Thresholds that a meter has crossed, so that each is told once.
CREATE TABLE alert (
  key    TEXT    NOT NULL,
  period INTEGER NOT NULL,
  ppm    INTEGER NOT NULL,                        -- millionths of the limit
  at     INTEGER NOT NULL,
  cap    TEXT    NOT NULL,
  scope  TEXT    NOT NULL,
  PRIMARY KEY (key, period, ppm)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_at ON alert (at);

-- What processes tell each other, the last word of each on a topic. No part of the books.
CREATE TABLE note (
  topic  TEXT    NOT NULL,
  writer TEXT    NOT NULL,
  at     INTEGER NOT NULL,
  body   TEXT    NOT NULL,                        -- JSON
  PRIMARY KEY (topic, writer)
) STRICT, WITHOUT ROWID;
