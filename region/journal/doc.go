// Package journal is what a region wrote, and how that is spelled.
//
// A region's store commits batches. A batch belongs to one owner, is atomic,
// and is spelled as records with one dense sequence per partition: the first
// record of a partition has sequence 1, and every record, of whatever kind,
// takes the next number. The package guarantees that equal batches have equal
// bytes, that a decoder either returns what was encoded or an error, and that
// a reader who follows a stream's links notices any record missing, repeated,
// reordered or altered.
package journal
