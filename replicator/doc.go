// Package replicator copies what a region wrote to the other regions.
//
// It guarantees that a replica applies an origin's records in the origin's
// order, whole batches at a time, and exactly once in effect, whatever the
// queue between them does: repeat, reorder, truncate, lose its middle, or come
// back empty. The origin's journal is the truth; the queue only makes the
// common case fast. What a replica has applied is known by the sequence stored
// with the data, never by a queue offset.
//
// # The way of a record
//
//	journal --Shipper--> queue --Replay--> store (row streams), Executor (command streams)
//	journal --JournalHandler--> HTTP --Replay, when the queue has a gap or is down
//
// [Shipper] has one goroutine per partition and one produce request in flight
// in each, 5 ms apart at least unless there is more than fits into one. [Replay]
// has, per other region, one long poll per broker that leads any of its partitions,
// one poll of its heads, and one goroutine per stream and partition that restores
// order and applies. Over a distance it has two long polls, half a round trip
// apart, and up to four under much writing: what is written just behind the answer
// to one is in the answer to the next, and so is there within three quarters of a
// round trip to one. Each asks for what those before it will probably not bring;
// some comes twice. Nothing spins: an idle region answers
// one long poll every two seconds, or two, and one poll of its heads a second.
//
// # Order
//
// Every message of the queue is one batch as its stream carries it, with the
// link that names its predecessor and the running chain ([journal.Follow]).
// Batches that come early wait in a bounded buffer; when it is full it is
// dropped and read again. A gap that stays for a moment is filled from the
// origin's journal over HTTP. A batch whose chain differs is dropped, and the
// origin's journal is asked for the true one: when that does not follow either,
// the histories have parted, and this stream of this partition halts, visibly,
// while the others go on.
//
// A record of a kind that this version does not know follows like any other, and
// is kept with the copy, but has no effect here ([journal.Kind]): a region that was
// upgraded first stops nobody. The stream says that it differs until this region
// is upgraded too, or longer when rows really do.
//
// Of a batch in a newer format not even the owner can be read. Whoever went on
// behind it could never put it in: the stream is dense, and rows of later batches
// may build on it. So this stream of this partition waits for an upgrade of this
// region, which the state [StateUnreadable] says, and the queue is not read for
// nothing; other partitions, streams and origins go on. Nothing is lost: the
// position stays, so the origin's journal keeps what is behind it, and past the
// budget the partition is begun anew. After the upgrade it goes on from there by
// itself. A world that requires a format of every member (package journal) keeps
// that from happening.
//
// # Queue groups
//
// A region may have several clusters of brokers, its queue groups. The shipper
// writes a partition to the first; when that refuses for some seconds it halts no
// longer but goes on in the next, from where the stream stands there or from the
// oldest record that somebody needs, and after a while it tries the first again.
// Replay reads all groups of an origin at once: they repeat each other, none
// has all, and order is restored over them by sequence as within one.
//
// # Positions
//
// The position of a row stream moves in the same transaction as the rows. The
// position of a command stream moves after the commands' effects are durable,
// at most 100 ms behind; commands are idempotent by their ID, so a crash in
// between repeats them without effect.
//
// # Bytes over HTTP
//
// GET /journal?partition=N&stream=S&from=SEQ answers with batches, each as a
// big-endian u32 length and that many bytes as in [journal.Encode]. The body is
// about a MiB, at least one batch when there is any, and empty when the stream
// ends before SEQ. GET /heads and GET /positions answer with JSON: [Heads] and
// [Positions]. With &of=REGION the first two answer from the copy that is kept of
// that region's journal. Errors are a status and one line of text; 410 says that
// the journal was trimmed before SEQ.
//
// GET /part?partition=N&homes=A,B[&own=1][&journal=1] answers with that part of the
// region's store (package dump), as one zstd frame (RFC 8878); the trailer
// Homing-Error says why it ends early, when it does.
//
// # What replay cannot do
//
// A replica that is new, or whose origin has trimmed what it needs next, is begun
// by comparison with a part of the origin's store (package mend), and then
// followed: by itself, and carefully, so that nothing here that the origin lacks
// is lost. A backup does so too when its origin has taken a home over, whose rows
// were written by others. A replica that has another history than its origin, or
// rows that are not the origin's, says so, and is made equal only when an operator
// asks for it ([Replay.Repair]). Rows that were changed behind the store's back are
// found by adding all of them up, again and again, with a twentieth of one
// processor.
//
// # Speed
//
// As `homing bench replicate --queue kafka` measured it on two cores, with batches
// of four rows of 100 bytes, not compressed, and nothing else running, in two runs,
// of which the second had MirrorMaker left out and fewer batches. To nothing:
// 190,000 batches for a second of one processor, which is 5.2 times MirrorMaker 2
// on the same broker (37,000). Into the embedded store: 99 to 156 % of the store's
// own row rate, as a transaction holds up to 256 batches and a commit one. After an
// outage it catches up at 6.3 times an ingest of a fifth of the capacity.
//
// Lag over a round trip of 150 ms at half load, with two fetches under way and
// nothing else running: p50 151 ms, p99 243 ms, at 2.8 bytes over the ocean for each
// of a user's, where 1.8 are there once. With four, as it is now, and with others at
// work on the machine: p50 117 ms, p99 252 ms, 4.6 bytes. The queue by itself, with
// the one fetch that Kafka's consumers have, took 168 and 369 ms in that run. What
// a message may wait for at worst is half a round trip, a quarter of one until the
// next fetch, a produce, and a transaction.
//
// # Regions that are gone
//
// The backup keeps what it replays of a full stream (store.Store.Copy). When a
// region does not answer and another one acts for it, gaps are filled from that
// one's copy, and so the commands that the region left behind reach their
// targets. A command of one's own journal is trimmed when its reader and the
// reader's backup both know that it ran.
//
// Nobody waits for a region that the world calls away, nor longer than its budget
// ([Options].Budget) for one that does not come: rows are trimmed past it, and it
// begins anew. Commands never are; [Replicator.Budgeted] refuses more of them. A
// budget is of bytes, divided evenly among the partitions. As a partition's journal
// is trimmed from its beginning only, a command that waits keeps what is behind it.
//
// A region that the world names as a home's new backup is in state bootstrap until
// it has compared the rows once, however short its lag. What a region acknowledged behind its
// successor's takeover goes to the [Merger] instead of the store.
package replicator
