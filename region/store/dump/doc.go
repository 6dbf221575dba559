// Package dump is a region's whole store as one stream of bytes: what moves a
// region from one engine to another, and what a backup is.
//
// It guarantees that what is read from a dump is what was written into it, or an
// error: every block has a checksum and the whole a digest, the rows of every
// partition have to add up to the digests that the region kept of them
// ([journal.RowSum]), and the journal's chain has to hold from its oldest batch
// to its newest. A dump that was cut off, at whatever byte, is refused.
//
// A partition in a dump is as of one position of its journal; several partitions
// are as of several moments when the store was in use meanwhile, which is how
// replicas see them too. What is read from a dump is a new incarnation of the
// region, so that replicas that are ahead of it notice.
//
// # Bytes
//
// Numbers in blocks are big-endian; uint, int, text, sum and term are those of
// package journal, spelled as short as they can be.
//
//	dump       8 bytes "HMGDUMP1", blocks
//	block      byte kind, u32 length of the body, body,
//	           u32 CRC-32C (Castagnoli) of kind, length and body
//
// The blocks are one header, then for every partition from 0 on one partition
// block, blocks of rows, of journal and of copies, and one end. Nothing follows it.
//
//	1 header     text region, uint partitions, int unix time in milliseconds,
//	             byte 1 when the store was in use, else 0
//	2 partition  uint partition, state
//	3 rows       one or more rows
//	4 journal    one or more batches: text batch, as package journal spells it
//	             with all its links
//	5 copies     one or more batches kept of other regions' full streams: text
//	             batch, as that stream carried it
//	6 end        uint rows of all partitions, uint batches of journals and
//	             copies, 32 bytes SHA-256 of everything before this block
//
//	state      uint incarnation, uint oldest sequence kept, uint next sequence,
//	           int unix milliseconds of the newest record,
//	           uint n, n times: text stream, uint last, sum chain (full first,
//	           then by name);
//	           uint n, n times: text home, byte changed since its watermark (0 or
//	           1), sum shared, uint shared rows, sum own, uint own rows (by home);
//	           uint n, n times: text home, term of the fence (by home);
//	           uint n, n times: text origin, text stream, uint incarnation, uint
//	           sequence, sum chain, int unix milliseconds (by origin, stream);
//	           uint n, n times: text home, turn (by home)
//	turn       term opened, text origin (empty when there was none), text stream,
//	           uint partition, uint incarnation, uint sequence, sum chain, int
//	           unix milliseconds, term handed, uint until, term ended
//	row        uint owner, byte table, text row, byte deleted (0 or 1),
//	           uint version, uint moves, term, text home, text value
package dump
