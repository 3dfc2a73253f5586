-- Results that come when their chunk is in the dataset. batch.late is 3 for
-- those of the late file that is being written.

ALTER TABLE chunk ADD COLUMN late INTEGER NOT NULL DEFAULT 0; -- how many late files are written
CREATE INDEX batch_late ON batch(chunk) WHERE late > 1;

-- Probes that are to go to another controller.
CREATE TABLE summons (
	probe     TEXT NOT NULL PRIMARY KEY,
	session   TEXT NOT NULL, -- that the probe had then
	addresses TEXT NOT NULL  -- of the controller where it is to go, with commas
) STRICT, WITHOUT ROWID;
