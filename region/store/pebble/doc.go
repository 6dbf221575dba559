// Package pebble is the embedded engine of region/store: one Pebble LSM per
// region, one write-ahead log for all partitions, one fsync for all commits
// that wait together.
//
// It guarantees that a commit is acknowledged only after the fdatasync of the
// write-ahead log that holds it returned, that a commit is there whole or not
// at all after a crash, and that no read shows a row, a journal record, a digest
// or a position that is not durable yet.
//
// # Group commit
//
// Callers do the work: under their partition's lock they check preconditions,
// number and chain the journal records, and put the keys into the partition's
// open chunk. One committer goroutine takes the open chunks of all partitions and
// writes them as one Pebble batch; a second one waits for the fsync and wakes the
// callers, in the order of the batches, of which two may be under way. Meanwhile
// callers fill the next chunks, seeing the rows of those that sync. So an fsync
// carries whatever arrived during the ones before it, and the rate grows with the
// callers.
//
// Most of what commits write over is not read from Pebble: each partition has
// exact tables of the rows under way, which nothing else knows, and of those that
// were written over lately, and a filter over the keys of all its rows, which says of most new rows that nothing
// is there. A filter begins empty and is of use once the keys that were there
// when the store was opened have been read, in the background.
//
// A commit sees what is under way, and a reader does not. So a commit that is
// refused because of a row under way returns when that row is durable, and so
// does an Apply or SetPosition that finds its work already done.
//
// Who submits does not wait: two tellers call back, in the order of the batches,
// once a group is durable.
//
// The newest batches of every partition's journal are in memory, too, so that the
// core and the shipper, who read each a moment after it was written, do not search
// Pebble for it.
//
// Pebble shows writes to readers before they are synced. Reads therefore go to
// a snapshot taken between two groups, and published when its group is durable.
//
// # Figures
//
// Of homing bench store --callers 2048 --duration 2s, on two cores of a virtual
// machine that is a third faster in one minute than in another; so runs are
// compared in turns. Rows have 100 bytes, journal and digests included.
//
//   - 274,000 and 348,000 durable rows/s, 6.2 and 5.0 µs of processor time each;
//     in turns with these, with one group under way, 239,000 and 231,000.
//   - 521,000 to 585,000 point reads/s in four runs, each the median of five readings,
//     when nothing is flushed or compacted any more; 214,000 where others had most of
//     the processors. Beside compactions it was 229,000 to 340,000.
//   - At half of the write rate the 99th percentile of a commit is 25 to 126 ms, where plain
//     Pebble batches have 7 to 61 ms at the same rate: 0.3 to 7.7 times that, on a disk
//     that others used. By time stamps, the stages of a group (waiting for the ones under way,
//     sealing, writing, syncing) have a 99th percentile of 1 to 5 ms each; what is
//     longer comes from syncs of 6 to 37 ms, also where nothing is flushed, from the
//     next log file (11 ms, once for each memtable), and from waiting for a processor
//     that a flush or compaction has. Memtables four times as large did not help, nor
//     did tables written in turns with everybody else (a yield for each 32 KiB):
//     compactions fell behind and were in the way later.
//
// # Failures
//
// When a sync fails, what was to be synced and everything after it fails too,
// and the store stays read-only until it is opened again: after a failed fsync
// nobody knows what the disk has. Reads go on. Before that, when less than
// Options.MinFree bytes are left on the disk, writes are refused with
// region.Unavailable and nothing is written; they go on by themselves once
// there is room. Fences and trims pass. Where somebody else fills the disk faster
// than that is noticed, log and manifest take the room of a ballast file (package
// disk), so that what was admitted becomes durable. Where Pebble cannot go on the
// process ends, having acknowledged nothing that is not durable: it calls Options.Fatal
// when it cannot write its manifest, and panics when it cannot make its next log
// file.
//
// # Layout
//
// Layout version 1. Numbers in keys are big-endian and of fixed width, so that
// keys sort as their parts do; uint, int and text are those of package journal.
//
//	key                                              value
//	m                                                JSON: layout, region, partitions, loading
//	f home                                           term
//	p u16 partition, text origin, stream             position
//	s u16 partition                                  state
//	r u16 partition, u64 owner, u8 table, row        row
//	j u16 partition, u64 sequence of first record    batch, as package journal spells it
//	k u16 partition, text origin, u64 sequence       batch kept of another region's full stream
//	t u16 partition, home                            JSON of a store.Turn
//
//	term      uint counter, 8 bytes raised
//	position  uint incarnation, uint sequence, sum chain, int unix milliseconds
//	state     uint incarnation, uint oldest sequence kept, uint next sequence,
//	          int unix milliseconds of the newest record,
//	          uint n, n times: text stream, uint last, sum chain;
//	          uint n, n times: text home, byte: bit 0 changed since its
//	          watermark, the others how many of its watermarks are not compared,
//	          sum shared, uint shared rows, sum own, uint own rows
//	row       byte 0 or 1 (tombstone), uint version, uint moves, term, text home, value
//
// A chunk writes the partition's state once, together with what it describes. The
// values of the journal (j, k) lie in blob files, which compactions leave alone.
package pebble
