-- Modes of surveys, sessions of probes, spools and their events.

ALTER TABLE survey ADD COLUMN mode INTEGER NOT NULL DEFAULT 1;   -- store.Mode
ALTER TABLE survey ADD COLUMN copies INTEGER NOT NULL DEFAULT 1;
ALTER TABLE survey ADD COLUMN probes TEXT NOT NULL DEFAULT '[]'; -- JSON
ALTER TABLE survey ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
CREATE INDEX survey_running ON survey(created, id) WHERE phase = 2;

ALTER TABLE chunk ADD COLUMN copy INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunk ADD COLUMN pin TEXT NOT NULL DEFAULT '';       -- the only probe that may measure it
ALTER TABLE chunk ADD COLUMN shared TEXT;                        -- survey/source, in a survey of copies
ALTER TABLE chunk ADD COLUMN writer TEXT;                        -- the controller that writes it
ALTER TABLE chunk ADD COLUMN writing INTEGER;                    -- until when, ns since 1970
DROP INDEX chunk_pending;
CREATE INDEX chunk_pending ON chunk(survey, pin, chunk) WHERE phase = 1;
CREATE INDEX chunk_shared ON chunk(shared, chunk) WHERE phase = 1 AND shared IS NOT NULL;
CREATE INDEX chunk_over ON chunk(survey, chunk) WHERE written = 0 AND phase >= 5;

-- Which copy of a chunk of the list a probe was offered, where it may have one.
CREATE TABLE taken (
	survey TEXT NOT NULL REFERENCES survey(id),
	source INTEGER NOT NULL,
	probe  TEXT NOT NULL,
	copy   INTEGER NOT NULL,
	PRIMARY KEY (survey, source, probe)
) STRICT, WITHOUT ROWID;

CREATE TABLE new_batch (
	id       INTEGER PRIMARY KEY,
	chunk    INTEGER NOT NULL REFERENCES chunk(id),
	epoch    INTEGER NOT NULL,
	spool    TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	probe    TEXT NOT NULL,
	late     INTEGER NOT NULL, -- 1: its lease was over; 2: its chunk was, it is kept aside
	address  TEXT NOT NULL,    -- that it came from
	body     BLOB NOT NULL,
	UNIQUE (chunk, epoch, spool, sequence)
) STRICT;
INSERT INTO new_batch SELECT id, chunk, epoch, '', sequence, probe, late, '', body FROM batch;
DROP TABLE batch;
ALTER TABLE new_batch RENAME TO batch;

CREATE TABLE spool (
	id      TEXT NOT NULL PRIMARY KEY,
	through INTEGER NOT NULL   -- the highest sequence that came
) STRICT, WITHOUT ROWID;

CREATE TABLE probe_event (
	id       INTEGER PRIMARY KEY,
	probe    TEXT NOT NULL,
	spool    TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body     BLOB NOT NULL,    -- tfofleet.v1.ProbeEvent
	UNIQUE (probe, spool, sequence)
) STRICT;
CREATE INDEX probe_event_order ON probe_event(probe, id);

ALTER TABLE probe ADD COLUMN drained INTEGER NOT NULL DEFAULT 0;
ALTER TABLE probe ADD COLUMN rate REAL NOT NULL DEFAULT 0;

CREATE TABLE session (
	probe      TEXT NOT NULL PRIMARY KEY,
	id         TEXT NOT NULL,
	instance   TEXT NOT NULL,
	hostname   TEXT NOT NULL,
	controller TEXT NOT NULL,
	since      INTEGER NOT NULL, -- ns since 1970
	heard      INTEGER NOT NULL, -- ns since 1970
	stale      INTEGER NOT NULL, -- ns after which it counts as gone
	state      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Until when no TTL lapses.
CREATE TABLE frozen (
	one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	until INTEGER NOT NULL       -- ns since 1970
) STRICT, WITHOUT ROWID;
