// Package succession moves the ownership of homes from one region to the next,
// in one region's store.
//
// It guarantees that a region admits writes of a home, in a partition, only
// after it has taken over there at the newest term; that after a planned change
// it takes over only when everything its predecessor acknowledged is applied;
// and that after a forced one it is on record, durably and before the first
// write, behind which record of the predecessor's anything may be missing.
//
// # How a home changes hands
//
// A world raises the counter of a home. Every region that holds it fences the
// home at the new term ([region.Fence]): from then on nothing older commits.
//
//   - The region before writes an end of term into every partition's journal:
//     the last it says about the home.
//   - Its successor has replayed that record, or the world was forced and what
//     could be had of the region before is applied: it writes a takeover. A
//     takeover carries how far the journal before is applied.
//   - A region that was acting and hears late, because it was down or cut off,
//     has written on behind that position. Its end of term closes the tail: what
//     lies between is merged by the successor, batch by batch
//     (region/core.Merge), and the open range of the report is closed.
//
// [Decide] is the whole of the decision, as a pure function. [Manager] has one
// goroutine per partition, which sleeps while no home is changing hands.
package succession
