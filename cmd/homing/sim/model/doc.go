// Package model searches every state that small worlds can reach while a home
// changes hands: fence, end of term, takeover, tail, failback.
//
// It guarantees that no state within the bounds breaks one of the invariants
// below, or [Search] returns the shortest way to one that does. What decides in it
// is production code: succession.Decide and Admits, store.Turn's Hand, Saw and
// Tail, store.Supersedes. What is modelled is around them: one home in one
// partition, regions that write messages and one setting, journals that are
// replayed entry by entry in any interleaving, an operator who switches over and
// fails over, regions that are cut off from all others, go on and come back. Time
// is left out: a region that waits for its predecessor to be quiet may find so at
// once, however much is still on its way. A crash is a cut in which nothing is
// written, since what is acknowledged is synced; package sim is where disks lose
// things.
//
// # Invariants
//
// They are those of package sim, by the same numbers.
//
//  1. One region acknowledges at a term, and none at an older term than that of
//     the world it holds.
//  3. What was acknowledged is where the home is served, or in the range that the
//     one who serves it reports open, or in a conflict.
//  4. When nothing is left to do, each entry of a tail was merged or is a conflict,
//     once, and each acknowledged message is in the inbox once.
//  6. When nothing is left to do, all copies are equal.
//  7. A row never goes back to an older term or version.
//  8. The inbox of a region that has taken over has no holes.
package model
