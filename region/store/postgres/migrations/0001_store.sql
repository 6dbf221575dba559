-- What this database is: one row.
CREATE TABLE homing_store (
	one        boolean PRIMARY KEY DEFAULT true CHECK (one),
	region     text    NOT NULL,
	partitions integer NOT NULL,
	shard      integer NOT NULL, -- which of the region's databases this is, from 0
	shards     integer NOT NULL, -- how many there are; partition p is in database p modulo shards
	token      text    NOT NULL, -- of the process that may commit
	timeline   text    NOT NULL  -- of the server it last committed to; another one is a new incarnation
);

-- The sequence row of each partition. Every group updates it on the condition
-- that it is as the group before left it.
CREATE TABLE homing_partition (
	partition   integer PRIMARY KEY,
	group_id    text    NOT NULL, -- of the last group: settles a COMMIT of unknown outcome
	incarnation bigint  NOT NULL,
	first       bigint  NOT NULL, -- oldest sequence kept
	next        bigint  NOT NULL,
	unix_milli  bigint  NOT NULL, -- of the newest record
	heads       text    NOT NULL, -- JSON, as are the following
	sums        text    NOT NULL,
	fence       text    NOT NULL
) WITH (fillfactor = 20); -- updated in place for ever

CREATE TABLE homing_row (
	partition integer  NOT NULL,
	owner     bigint   NOT NULL, -- an unsigned number, its bits taken as a signed one
	tab       smallint NOT NULL,
	key       bytea    NOT NULL,
	version   bigint   NOT NULL,
	moves     bigint   NOT NULL, -- the epoch it was written at
	counter   bigint   NOT NULL,
	raised    bytea    NOT NULL,
	deleted   boolean  NOT NULL,
	home      text     NOT NULL,
	sum       bytea    NOT NULL,
	value     bytea    NOT NULL,
	PRIMARY KEY (partition, owner, tab, key)
);

CREATE TABLE homing_journal (
	partition integer NOT NULL,
	first     bigint  NOT NULL,
	streams   text    NOT NULL, -- names, each between spaces
	data      bytea   NOT NULL, -- the batch, as package journal spells it
	PRIMARY KEY (partition, first)
);

CREATE TABLE homing_position (
	partition   integer NOT NULL,
	origin      text    NOT NULL,
	stream      text    NOT NULL,
	incarnation bigint  NOT NULL,
	seq         bigint  NOT NULL,
	chain       bytea   NOT NULL,
	unix_milli  bigint  NOT NULL,
	PRIMARY KEY (partition, origin, stream)
);
