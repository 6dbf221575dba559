// Package region is the kernel of Homing: the nouns of the system and the one
// rule everything else follows from, that a record is written only by the
// region that acts for its owner's home.
//
// The package is pure. It uses the standard library only and does no I/O,
// reads no clock and starts no goroutine, so whatever decides ownership can be
// replayed from a seed.
//
// # Nouns
//
//   - [UIN]: the number of a user or group; both are owners of records.
//   - [ID]: the name of a region, such as "sh".
//   - [Partition]: the hash class of an owner, the unit of order.
//   - [Term]: how often a home has failed over, and which world said so.
//   - [Epoch]: the moves of an owner and the term of its home.
//   - [World]: the topology, as the operator wrote and signed it.
//   - [Signed]: the envelope a world travels in.
//   - [View]: a world together with the overlay of moved owners; it answers
//     "where is this owner at home, who acts for it, at which epoch".
//
// # Rules
//
// They are numbered here and cited by the tests that hold them.
//
//  1. At most one region admits writes for an owner at an epoch ([View.Admit]).
//  2. Epochs only grow ([CheckSuccessor]); clocks never decide ownership.
//  3. A region that holds a newer verified world never admits at an older
//     epoch ([Fence]).
//  4. Segments and region IDs are never re-assigned ([CheckSuccessor]).
//  5. Who acts for a home changes only together with its counter.
package region
