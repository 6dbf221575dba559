// Package health checks, from one observer, which POPs and regions can take
// clients, and hands out immutable snapshots that dns/steer decides by.
//
// # Guarantees
//
//   - What has not been checked with success is not healthy. The first round
//     runs at once, and one success is enough to begin with; afterwards it takes
//     Rise successes in a row to come up and Fall failures in a row to go down.
//   - A snapshot never changes; [Checker.Changed] tells when the next differs.
//   - A member that leaves the world, or whose address changes, is forgotten:
//     it has to prove itself again.
//   - A check ends within the timeout, so a dead member leaves the snapshot at
//     most one interval plus Fall times the longer of interval and timeout after
//     its death: with the defaults 2.5 s when it is silent, 1.5 s when its host
//     refuses connections.
//   - A member has at most one check under way, and all together at most
//     Concurrency: the price of checking a large world is bounded.
//
// One observer sees its own links too: that several agree is a later part's
// business, and [Checker.Report] shows what this one saw.
package health
