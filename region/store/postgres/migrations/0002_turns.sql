-- How ownership of homes stands in the partition: JSON.
ALTER TABLE homing_partition ADD COLUMN turns text NOT NULL DEFAULT '{}';

-- Batches of other regions' full streams, for the day this region acts for them.
CREATE TABLE homing_copy (
	partition integer NOT NULL,
	origin    text    NOT NULL,
	first     bigint  NOT NULL, -- sequences of the origin's journal
	last      bigint  NOT NULL,
	data      bytea   NOT NULL, -- as package journal spells a batch
	PRIMARY KEY (partition, origin, first)
);
