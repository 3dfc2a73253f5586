-- Surveys, leases and unfinished results. A chunk's row is not split into one
-- row per target, and bulk rows have no index but the order of arrival: both
-- would cost more than the measurements.

CREATE TABLE list (
	id         TEXT NOT NULL PRIMARY KEY,
	targets    INTEGER NOT NULL,
	chunk_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE survey (
	id      TEXT NOT NULL PRIMARY KEY,
	request TEXT NOT NULL UNIQUE,
	name    TEXT NOT NULL,
	list    TEXT NOT NULL REFERENCES list(id),
	spec    BLOB NOT NULL,    -- tfofleet.v1.SurveySpec
	phase   INTEGER NOT NULL, -- store.Phase
	cancel  INTEGER NOT NULL DEFAULT 0,
	reason  TEXT NOT NULL DEFAULT '',
	created INTEGER NOT NULL, -- ns since 1970
	ended   INTEGER           -- ns since 1970
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
	survey TEXT NOT NULL REFERENCES survey(id),
	item   INTEGER NOT NULL,  -- lease.Item
	n      INTEGER NOT NULL,
	PRIMARY KEY (survey, item)
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
	name    TEXT NOT NULL PRIMARY KEY,
	version TEXT NOT NULL,
	host    BLOB NOT NULL     -- tfofleet.v1.Host
) STRICT, WITHOUT ROWID;

CREATE TABLE survey_probe (
	survey TEXT NOT NULL REFERENCES survey(id),
	probe  TEXT NOT NULL,
	PRIMARY KEY (survey, probe)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunk (
	id       INTEGER PRIMARY KEY,
	survey   TEXT NOT NULL REFERENCES survey(id),
	chunk    INTEGER NOT NULL,
	source   INTEGER NOT NULL, -- the chunk of the list its items are from
	size     INTEGER NOT NULL,
	phase    INTEGER NOT NULL, -- lease.Phase
	written  INTEGER NOT NULL DEFAULT 0,
	holder   TEXT,             -- the probe of the newest lease, while it may come back
	deadline INTEGER,          -- ns since 1970
	lease    TEXT,             -- the rest of lease.State as JSON; null at first
	items    BLOB,             -- one lease.Item per target; null at first
	UNIQUE (survey, chunk)
) STRICT;
CREATE INDEX chunk_pending ON chunk(survey, chunk) WHERE phase = 1;
CREATE INDEX chunk_unwritten ON chunk(survey, chunk) WHERE written = 0;
CREATE INDEX chunk_holder ON chunk(holder) WHERE holder IS NOT NULL;
CREATE INDEX chunk_deadline ON chunk(deadline) WHERE deadline IS NOT NULL;

CREATE TABLE batch (
	id       INTEGER PRIMARY KEY,
	chunk    INTEGER NOT NULL REFERENCES chunk(id),
	epoch    INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	probe    TEXT NOT NULL,
	late     INTEGER NOT NULL, -- 1: its lease was over; 2: its chunk was, it is kept aside
	body     BLOB NOT NULL,
	UNIQUE (chunk, epoch, sequence)
) STRICT;
