// Package static answers from zone files: what a name server has to say about
// names that nobody steers.
//
// # Guarantees
//
//   - An answer is the one that RFC 1034 section 4.3.2 asks for, with wildcards
//     as RFC 4592 has them, DNAME as RFC 6672 and empty non-terminals as RFC 8020:
//     a name exists when one below it does.
//   - A CNAME chain is followed to its end, or to the zone's, once around a loop.
//   - A zone is immutable and its answers are the caller's: records in them are
//     copied where the question changes them, shared where it does not, and never
//     to be changed.
//   - A file that is no good zone is refused as a whole, with its line.
//
// # Files
//
// Master files of RFC 1035 section 5, $INCLUDE excepted: a file that anybody can
// write would read others. The zone is what the SOA record is the owner of; the
// class is IN.
package static
