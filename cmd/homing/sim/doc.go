// Package sim plays disasters from a seed.
//
// It guarantees that a seed gives the same run, and that a run fails when one of
// the invariants below does not hold after one of its steps. Three regions, each
// the backup of another one, are stepped by a scheduler that nobody else
// interferes with: everything that decides is production code (region.Chain,
// Ballot and View, keeper.TakeUp, succession.Manager, replicator.Stepper,
// core.Core, and the steps of store/memory's partitions), and what is here is the
// weather: a network that loses, delays, cuts off; queues that repeat, reorder,
// alter, forget; disks that keep only what was synced; operators who switch
// over, fail over and back at any time, two of them at once, who in a quarter of
// the runs force changes without hearing of each other, until one of them joins what
// has forked; and clients.
//
// # Invariants
//
//  1. One region acknowledges for an owner at an epoch, and none at an older term
//     than that of the world it holds. An owner is given away only when the backup
//     has the fence.
//  2. What is applied of a stream only grows, and is the origin's own history: the
//     chain at a position is the origin's chain there.
//  3. What was acknowledged is at the successor, or behind an open range that it
//     reports.
//  4. Every batch of a tail is merged or a conflict, once: later answers repeat the
//     first, what is called applied has taken effect, what is called a conflict is
//     kept whole and listed.
//  5. Replaying a beginning of a history again changes nothing.
//  6. At rest all copies of a home are equal, in digest and row by row.
//  7. What was deleted does not come back: no copy's row returns to an older epoch
//     and version.
//  8. A client that syncs has every message its inbox has, in the inbox's order,
//     and never an older epoch than before.
//  9. A handle is acknowledged to one user only, and no copy of an account has a
//     handle that is another user's.
//  10. The lag that is reported, in records and in seconds, is at least the true
//     one; a command that nobody can execute holds up nobody, and is kept.
//  11. What is trimmed was applied by everybody who needs it; commands also by who
//     succeeds their reader.
//
// At the end the weather ends too: everything returns, and has to settle.
//
// # What the weather leaves out
//
// Owners move only when that is asked for (Options.Moves), and then not every seed
// passes: of the first 320, nine do not. Eight (72, 82, 132, 151, 161, 271, 285, 294)
// leave an open range: what a tail has of an owner who has moved away meanwhile nobody
// can merge. In 132 and 151 a region takes a home over with the fence of a move, and
// without the record that called the move off, and carries it on, though the region
// before acknowledged something in between; it would have to go on at one move more,
// by a flip of its own. In 285 no move was called off, and the cause is not known; the
// others were not looked into. In 125 a user moves on before the old home, which keeps the new home's copies,
// has taken back what is left there: the state of the second move takes the place of
// the first one's.
//
// A home changes hands again only when its last change has come to its end: taken
// over everywhere, the tail merged, and the next in line has all of that. Without
// it a region whose successor lost the home again before it had merged the tail
// keeps that tail to itself, and the replay of it stalls there. Only the world that
// joins a fork does not wait: it leaves every home that its parents disagree about to
// who acts at the newest term ([region.Dispute]), and changes nothing else. In runs in
// which journals are trimmed nobody changes who acts, because this store's copies cannot
// be bootstrapped. Watermarks are not judged in runs in which a home changed hands, or
// owners may move; the copies are compared row by row at rest. The directory of
// handles is a map that never forgets, behind a network that does; what it does on
// disk is for the tests of ids.
package sim
