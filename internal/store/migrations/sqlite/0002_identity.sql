-- Who may do what, see identity.Store. Times are µs since 1970, null when it
-- did not happen.

CREATE TABLE fleet (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	id  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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
