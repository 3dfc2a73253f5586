-- Who may do what, see identity.Store. Times are µs since 1970, null when it
-- did not happen.

CREATE TABLE fleet (
	one integer PRIMARY KEY CHECK (one = 1),
	id  text COLLATE "C" NOT NULL
);

CREATE TABLE token (
	id          text COLLATE "C" PRIMARY KEY,
	secret_hash bytea NOT NULL,
	uses        bigint NOT NULL,
	used        bigint NOT NULL,
	labels      text NOT NULL, -- JSON
	prefix      text NOT NULL,
	created     bigint,
	expires     bigint,
	revoked     bigint
);

CREATE TABLE member (
	kind             smallint NOT NULL, -- identity.Kind
	name             text COLLATE "C" NOT NULL,
	created          bigint,
	serial           text COLLATE "C" NOT NULL,
	banned           bigint,
	ban_reason       text NOT NULL,
	identity_key     bytea UNIQUE,
	token            text COLLATE "C" NOT NULL,
	labels           text NOT NULL, -- JSON
	recoveries       bigint NOT NULL,
	recoveries_today bigint NOT NULL,
	recovery_day     bigint,
	PRIMARY KEY (kind, name)
);

CREATE TABLE certificate (
	serial     text COLLATE "C" PRIMARY KEY,
	kind       smallint NOT NULL, -- identity.Kind
	name       text COLLATE "C" NOT NULL,
	key_hash   bytea NOT NULL UNIQUE,
	state      smallint NOT NULL, -- identity.CertificateState
	issued     bigint,
	expires    bigint,
	superseded bigint,
	der        bytea NOT NULL
);
