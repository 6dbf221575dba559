// Package health checks which POPs and regions can take clients, joins what it
// sees with what other observers tell, and hands out immutable snapshots that
// dns/steer decides by.
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
// # Observers
//
// Whoever steers observes: DNS nodes and regions. Each tells the others what it
// sees (by gossip), and all decide alike ([Agree]): a member is healthy when
// somebody sees it up and no majority of those who know it sees it down. So one
// observer's bad link, or lie, fails nobody; with three observers it keeps nobody
// up either. With two, who disagree, the member stays. An observer that is silent
// for three seconds does not count, and one alone decides by itself. What is told
// is not signed: gossip's key keeps strangers out, and each member of the world
// has one vote. [Checker.Report] shows what this observer saw.
package health
