-- A database of schema version 3 with a survey under way, as sqlite3 dumps it.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE list (
	id         TEXT NOT NULL PRIMARY KEY,
	targets    INTEGER NOT NULL,
	chunk_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO list VALUES('list1',11,3);
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
, mode INTEGER NOT NULL DEFAULT 1, copies INTEGER NOT NULL DEFAULT 1, probes TEXT NOT NULL DEFAULT '[]', paused INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO survey VALUES('failed','request of failed','it''s failed','list1',X'08022807',5,0,'no room',1795219203000000000,1795219206000000000,1,1,'[]',0);
INSERT INTO survey VALUES('running','request of running','it''s running','list1',X'080228075001',2,0,'',1795219206000000000,NULL,1,1,'[]',0);
CREATE TABLE tally (
	survey TEXT NOT NULL REFERENCES survey(id),
	item   INTEGER NOT NULL,  -- lease.Item
	n      INTEGER NOT NULL,
	PRIMARY KEY (survey, item)
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES('failed',0,11);
INSERT INTO tally VALUES('running',0,7);
INSERT INTO tally VALUES('running',33,4);
CREATE TABLE probe (
	name    TEXT NOT NULL PRIMARY KEY,
	version TEXT NOT NULL,
	host    BLOB NOT NULL     -- tfofleet.v1.Host
, drained INTEGER NOT NULL DEFAULT 0, rate REAL NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO probe VALUES('p','0.1',X'1204362e31382001',0,0.0);
INSERT INTO probe VALUES('q','0.1',X'1204362e31382001',0,0.0);
CREATE TABLE survey_probe (
	survey TEXT NOT NULL REFERENCES survey(id),
	probe  TEXT NOT NULL,
	PRIMARY KEY (survey, probe)
) STRICT, WITHOUT ROWID;
INSERT INTO survey_probe VALUES('running','p');
INSERT INTO survey_probe VALUES('running','q');
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
	items    BLOB, copy INTEGER NOT NULL DEFAULT 0, pin TEXT NOT NULL DEFAULT '', shared TEXT, writer TEXT, writing INTEGER,             -- one lease.Item per target; null at first
	UNIQUE (survey, chunk)
) STRICT;
INSERT INTO chunk VALUES(1,'failed',0,0,3,1,0,NULL,NULL,NULL,NULL,0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(2,'failed',1,1,3,1,0,NULL,NULL,NULL,NULL,0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(3,'failed',2,2,3,1,0,NULL,NULL,NULL,NULL,0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(4,'failed',3,3,2,1,0,NULL,NULL,NULL,NULL,0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(5,'running',0,0,3,5,0,NULL,NULL,'{"epoch":1,"instance":"1","holders":["p"]}',X'212121',0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(6,'running',1,1,3,3,0,'q',1795219260000000000,'{"epoch":2,"probe":"q","instance":"1","attempt":1,"late":{"0":{"Epoch":1,"Result":33}},"holders":["p","q"]}',X'032103',0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(7,'running',2,2,3,2,0,'q',1795219247000000000,'{"epoch":1,"probe":"q","instance":"1","offers":1,"holders":["q"]}',X'020202',0,'',NULL,NULL,NULL);
INSERT INTO chunk VALUES(8,'running',3,3,2,1,0,NULL,NULL,NULL,NULL,0,'',NULL,NULL,NULL);
CREATE TABLE fleet (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	id  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO fleet VALUES(1,'fleet');
CREATE TABLE token (
	id          TEXT NOT NULL PRIMARY KEY,
	secret_hash BLOB NOT NULL,
	uses        INTEGER NOT NULL,
	used        INTEGER NOT NULL,
	labels      TEXT NOT NULL, -- JSON
	prefix      TEXT NOT NULL,
	created     INTEGER,
	expires     INTEGER,
	revoked     INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO token VALUES('t',X'abababababababababababababababababababababababababababababababab',2,1,'{"region":"fra"}','',1795219200000000,1795305600000000,NULL);
CREATE TABLE member (
	kind             INTEGER NOT NULL, -- identity.Kind
	name             TEXT NOT NULL,
	created          INTEGER,
	serial           TEXT NOT NULL,
	banned           INTEGER,
	ban_reason       TEXT NOT NULL,
	identity_key     BLOB UNIQUE,
	token            TEXT NOT NULL,
	labels           TEXT NOT NULL, -- JSON
	recoveries       INTEGER NOT NULL,
	recoveries_today INTEGER NOT NULL,
	recovery_day     INTEGER,
	PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO member VALUES(2,'p',1795219201000000,'01',NULL,'',X'0102','t','{"region":"fra"}',0,0,NULL);
INSERT INTO member VALUES(2,'q',1795219202000000,'',1795219210000000,'lost',NULL,'t','{}',0,0,NULL);
CREATE TABLE certificate (
	serial     TEXT NOT NULL PRIMARY KEY,
	kind       INTEGER NOT NULL, -- identity.Kind
	name       TEXT NOT NULL,
	key_hash   BLOB NOT NULL UNIQUE,
	state      INTEGER NOT NULL, -- identity.CertificateState
	issued     INTEGER,
	expires    INTEGER,
	superseded INTEGER,
	der        BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE taken (
	survey TEXT NOT NULL REFERENCES survey(id),
	source INTEGER NOT NULL,
	probe  TEXT NOT NULL,
	copy   INTEGER NOT NULL,
	PRIMARY KEY (survey, source, probe)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "batch" (
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
INSERT INTO batch VALUES(1,5,1,'',0,'p',0,'',X'6669727374');
INSERT INTO batch VALUES(2,5,1,'',1,'p',0,'',X'7365636f6e6400');
INSERT INTO batch VALUES(3,6,1,'',0,'p',1,'',X'6c617465');
INSERT INTO batch VALUES(4,6,2,'',0,'q',0,'',X'7468697264');
INSERT INTO batch VALUES(5,5,1,'s',7,'p',2,'192.0.2.1',X'6173696465');
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
CREATE TABLE frozen (
	one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	until INTEGER NOT NULL       -- ns since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX chunk_unwritten ON chunk(survey, chunk) WHERE written = 0;
CREATE INDEX chunk_holder ON chunk(holder) WHERE holder IS NOT NULL;
CREATE INDEX chunk_deadline ON chunk(deadline) WHERE deadline IS NOT NULL;
CREATE INDEX survey_running ON survey(created, id) WHERE phase = 2;
CREATE INDEX chunk_pending ON chunk(survey, pin, chunk) WHERE phase = 1;
CREATE INDEX chunk_shared ON chunk(shared, chunk) WHERE phase = 1 AND shared IS NOT NULL;
CREATE INDEX chunk_over ON chunk(survey, chunk) WHERE written = 0 AND phase >= 5;
CREATE INDEX probe_event_order ON probe_event(probe, id);
COMMIT;
PRAGMA user_version = 3;
