-- Results that come when their chunk is in the dataset, as in SQLite: batch.late
-- is 3 for those of the late file that is being written.

ALTER TABLE chunk ADD COLUMN late bigint NOT NULL DEFAULT 0; -- how many late files are written
CREATE INDEX batch_late ON batch(chunk) WHERE late > 1;

CREATE TABLE summons (
	probe     text COLLATE "C" PRIMARY KEY,
	session   text COLLATE "C" NOT NULL, -- that the probe had then
	addresses text NOT NULL              -- of the controller where it is to go, with commas
);
