// Package journal is what a region wrote, and how that is spelled.
//
// A region's store commits batches. A batch belongs to one owner, is atomic,
// and is spelled as records with one dense sequence per partition: the first
// record of a partition has sequence 1, and every record, of whatever kind,
// takes the next number. The package guarantees that equal batches have equal
// bytes, that a decoder either returns what was encoded or an error, and that
// a reader who follows a stream's links ([Follow]) notices any record missing,
// repeated, reordered or altered.
//
// # Streams
//
// A stream is a filter of a journal ([Filter]), and keeps the sequences of the
// journal, so that a filtered stream has gaps in its numbers:
//
//	full       every record, for the backup
//	shared     row records of tables 1-99, watermarks, and kinds from 128 on, for
//	           every region
//	to-<home>  commands whose To is that region; a region takes those for
//	           itself from its own journal, and they are in no queue
//
// The class of a row is in the number of its table: 1-99 shared, 100-199 own, of
// the owner's acting region and its backups, 200-255 local, which make no record.
// A watermark's own sum and number of rows are zero in the shared stream: a region
// that gets the shared stream only cannot compare them, and they say nothing of
// use to it.
//
// The partition of an owner is FNV-1a 64 over the eight big-endian bytes of the
// UIN, modulo the number of partitions, which is in the world. A batch of a
// partition's own records (watermark, position, term) has owner 0 and home "".
//
// # The queue
//
// A stream of a region is one topic, homing.<origin>.<stream>, for example
// homing.sh.to-hk ([Topic]). The partition of the topic is the partition of the
// journal. A message is one batch as the stream carries it: the value is the
// encoded batch with the one link of that stream (in stream full with all its
// links, that of full first), the key is the ASCII text
// <first>-<last> of its sequences ([QueueKey]), for people and log tools. In a
// filtered stream there may be gaps between keys and inside of one: 3-5 may be
// the records 3 and 5.
// A queue may lose, repeat and reorder messages; the links show it.
//
// # Bytes of a batch
//
// Format 1, on disk and in queues. There is exactly one spelling of a batch.
//
//	uint    unsigned LEB128 (seven bits a byte, low ones first, high bit on all
//	        but the last byte), 64 bits, in as few bytes as it takes
//	int     zigzag (n<<1 ^ n>>63) as a uint
//	text    uint length, then that many bytes
//	sum     16 bytes
//	term    uint counter, 8 bytes raised
//	epoch   uint moves, term
//
//	batch   byte 1 (the format), uint number of links, links, body
//	link    text stream, uint prev, sum chain
//	body    text origin, uint partition, uint incarnation,
//	        uint owner, text home, epoch, int unix time in milliseconds,
//	        uint number of records, records
//	record  uint length of what follows, uint sequence minus the sequence of
//	        the record before it in this batch (minus 0 for the first),
//	        byte kind, then by kind:
//	  1 row        byte table, byte deleted (0 or 1), uint version, text row,
//	               text value (empty when deleted), sum before, sum after
//	  2 command    16 bytes id, text to, uint target, uint method, text payload
//	  3 watermark  text home, sum shared, uint shared rows, sum own, uint own rows
//	  4 position   text origin, text stream, uint partition, uint incarnation,
//	               uint sequence, sum chain, int unix time in milliseconds
//	  5 term       text home, term, byte what
//
// Links are sorted: full first, then by name. Owner is 0 exactly when home is
// empty.
//
// # Newer kinds
//
// Regions are upgraded one after another, and may have to go back. A record of a
// kind that a node does not know is carried as it came: in the streams that its
// number names ([Kind]), in its chain, in the copies that backups keep, in its own
// journal after a downgrade. It has no effect there, and the node says so. What
// such records did to rows is found by digests, and mended by comparison once the
// node knows the kind. A kind whose effect is not in rows may be written only
// under a world that every member has to know it for (requires), and so may another
// format, of which nothing can be read.
//
// # Chain
//
// The chain of a stream starts as 16 zero bytes. After a batch it is
//
//	first 16 bytes of SHA-256( chain before (16 bytes) || body of the batch as the stream carries it )
//
// and the link carries it together with prev, the last sequence of the batch
// before it in the stream (0 for the first). Body has no links, so that a
// stream's chain does not depend on which other streams the batch is in. The
// chain is no signature: it finds loss and faults, not forgers.
//
// # Digest of a row
//
// [RowSum] is the first 16 bytes of the SHA-256 of these, all numbers
// big-endian:
//
//	u64 owner, u8 table, u32 length of row, row,
//	u64 version, u64 moves, u64 counter, 8 bytes raised, u8 deleted (0 or 1), value
//
// The sum of many rows is the sum of their digests as big-endian numbers modulo
// 2^128. Tombstones count. Rows of tables 200-255 have no digest.
//
// Version, deleted and value are those of the row record; owner, moves, counter and
// raised those of its batch. A record's after is the digest of what it writes, its
// before the digest of what was there: that of the record with the same owner,
// table and row before it, and zero when there was none. A watermark has the sums
// of all rows of one home in this partition, tables 1-99 and 100-199 apart, and
// how many there are, tombstones included, as they are after every record before
// it. So a follower that adds after and subtracts before, from the first record
// on, has the watermark's sums, as long as this region alone acted for the home.
package journal
