-- Surveys, leases and unfinished results, as in SQLite. What differs serves
-- several writers:
--
-- No foreign key leads from what is written with every batch: whoever writes it
-- has the chunk locked, and chunks are never removed.
--
-- Names compare by their bytes, whatever the server's locale.
--
-- No index is on what a heartbeat or a batch changes (deadline, lease, items):
-- then, with room left on the page, a chunk's new row needs no index entry.

CREATE TABLE list (
	id         text COLLATE "C" PRIMARY KEY,
	targets    bigint NOT NULL,
	chunk_size integer NOT NULL
);

CREATE TABLE survey (
	id      text COLLATE "C" PRIMARY KEY,
	request text COLLATE "C" NOT NULL UNIQUE,
	name    text COLLATE "C" NOT NULL,
	list    text COLLATE "C" NOT NULL REFERENCES list(id),
	spec    bytea NOT NULL,    -- tfofleet.v1.SurveySpec
	phase   smallint NOT NULL, -- store.Phase
	cancel  boolean NOT NULL DEFAULT false,
	reason  text NOT NULL DEFAULT '',
	created timestamptz NOT NULL,
	ended   timestamptz
);

CREATE TABLE tally (
	survey text COLLATE "C" NOT NULL,
	item   smallint NOT NULL, -- lease.Item
	n      bigint NOT NULL,
	PRIMARY KEY (survey, item)
) WITH (fillfactor = 50);

CREATE TABLE probe (
	name    text COLLATE "C" PRIMARY KEY,
	version text NOT NULL,
	host    bytea NOT NULL    -- tfofleet.v1.Host
);

CREATE TABLE survey_probe (
	survey text COLLATE "C" NOT NULL,
	probe  text COLLATE "C" NOT NULL,
	PRIMARY KEY (survey, probe)
);

CREATE TABLE chunk (
	id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	survey   text COLLATE "C" NOT NULL REFERENCES survey(id),
	chunk    bigint NOT NULL,
	source   bigint NOT NULL,   -- the chunk of the list its items are from
	size     integer NOT NULL,
	phase    smallint NOT NULL, -- lease.Phase
	written  boolean NOT NULL DEFAULT false,
	holder   text COLLATE "C", -- the probe of the newest lease, while it may come back
	deadline timestamptz,
	lease    text,              -- the rest of lease.State as JSON; null at first
	items    bytea,             -- one lease.Item per target; null at first
	UNIQUE (survey, chunk)
) WITH (fillfactor = 50);
CREATE INDEX chunk_pending ON chunk(survey, chunk) WHERE phase = 1;
CREATE INDEX chunk_live ON chunk(id) WHERE phase IN (2, 3, 4);
CREATE INDEX chunk_unwritten ON chunk(survey, chunk) WHERE NOT written;
CREATE INDEX chunk_holder ON chunk(holder) WHERE holder IS NOT NULL;

CREATE TABLE batch (
	id       bigint GENERATED ALWAYS AS IDENTITY,
	chunk    bigint NOT NULL,   -- chunk.id
	epoch    bigint NOT NULL,
	sequence bigint NOT NULL,
	probe    text COLLATE "C" NOT NULL,
	late     smallint NOT NULL, -- 1: its lease was over; 2: its chunk was, it is kept aside
	body     bytea NOT NULL,
	PRIMARY KEY (chunk, epoch, sequence)
);
-- It is compressed already.
ALTER TABLE batch ALTER COLUMN body SET STORAGE EXTERNAL;
