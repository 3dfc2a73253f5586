-- Modes of surveys, sessions of probes, spools and their events.

ALTER TABLE survey
	ADD COLUMN mode smallint NOT NULL DEFAULT 1, -- store.Mode
	ADD COLUMN copies bigint NOT NULL DEFAULT 1,
	ADD COLUMN probes text[] COLLATE "C" NOT NULL DEFAULT '{}',
	ADD COLUMN paused boolean NOT NULL DEFAULT false;
CREATE INDEX survey_running ON survey(created, id) WHERE phase = 2;

ALTER TABLE chunk
	ADD COLUMN copy bigint NOT NULL DEFAULT 0,
	ADD COLUMN pin text COLLATE "C" NOT NULL DEFAULT '', -- the only probe that may measure it
	ADD COLUMN shared text COLLATE "C",                  -- survey/source, in a survey of copies
	ADD COLUMN writer text COLLATE "C",                  -- the controller that writes it
	ADD COLUMN writing timestamptz;                      -- until when
-- Checked for each of up to a million rows of a new survey, in one statement with its
-- own row.
ALTER TABLE chunk DROP CONSTRAINT chunk_survey_fkey;
DROP INDEX chunk_pending;
CREATE INDEX chunk_pending ON chunk(survey, pin, chunk) WHERE phase = 1;
CREATE INDEX chunk_shared ON chunk(shared, chunk) WHERE phase = 1 AND shared IS NOT NULL;
CREATE INDEX chunk_over ON chunk(survey, chunk) WHERE NOT written AND phase >= 5;

-- Which copy of a chunk of the list a probe was offered, where it may have one.
CREATE TABLE taken (
	survey text COLLATE "C" NOT NULL,
	source bigint NOT NULL,
	probe  text COLLATE "C" NOT NULL,
	copy   bigint NOT NULL,
	PRIMARY KEY (survey, source, probe)
);

-- How often a chunk became pending in a survey of copies: until then, what a
-- probe was not allowed to claim it is not.
CREATE TABLE requeued (
	survey text COLLATE "C" PRIMARY KEY,
	n      bigint NOT NULL
) WITH (fillfactor = 50);

ALTER TABLE batch ADD COLUMN spool text COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN address text NOT NULL DEFAULT ''; -- that it came from
ALTER TABLE batch DROP CONSTRAINT batch_pkey, ADD PRIMARY KEY (chunk, epoch, spool, sequence);

CREATE TABLE spool (
	id      text COLLATE "C" PRIMARY KEY,
	through bigint NOT NULL -- the highest sequence that came
) WITH (fillfactor = 50);

CREATE TABLE probe_event (
	id       bigint GENERATED ALWAYS AS IDENTITY,
	probe    text COLLATE "C" NOT NULL,
	spool    text COLLATE "C" NOT NULL,
	sequence bigint NOT NULL,
	body     bytea NOT NULL, -- tfofleet.v1.ProbeEvent
	PRIMARY KEY (probe, spool, sequence)
);
CREATE INDEX probe_event_order ON probe_event(probe, id);

ALTER TABLE probe
	ADD COLUMN drained boolean NOT NULL DEFAULT false,
	ADD COLUMN rate double precision NOT NULL DEFAULT 0;

-- No index is on what a heartbeat changes.
CREATE TABLE session (
	probe      text COLLATE "C" PRIMARY KEY,
	id         text COLLATE "C" NOT NULL,
	instance   text COLLATE "C" NOT NULL,
	hostname   text NOT NULL,
	controller text COLLATE "C" NOT NULL,
	since      timestamptz NOT NULL,
	heard      timestamptz NOT NULL,
	stale      interval NOT NULL, -- after which it counts as gone
	state      bytea NOT NULL
) WITH (fillfactor = 50);

-- Until when no TTL lapses.
CREATE TABLE frozen (
	one   integer PRIMARY KEY CHECK (one = 1),
	until timestamptz NOT NULL
);
