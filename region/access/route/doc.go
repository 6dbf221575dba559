// Package route takes clients' requests from access processes to logic
// processes. [Router] is the end at access, [Handler] the one at logic.
//
// It guarantees that
//
//   - a request goes where the rules say, in order, the first that matches: by
//     UIN (the sandbox), by client version; else to the instances that no rule
//     names. Among these the owner's UIN decides by rendezvous hashing, so that an
//     owner's requests meet in one process, and an instance that comes or goes
//     moves only its own share;
//   - a request that did not reach an instance, or whose answer was lost, is tried
//     at the next one within the client's deadline; every mutation carries an
//     idempotency key and takes effect once, so this is safe for all of them
//     ([again] is the one place that decides);
//   - what an instance answered is the answer: errors, overload and all. Trying an
//     overloaded service elsewhere is how overload spreads;
//   - an instance that fails several times in a row is ejected: it gets no requests
//     until a probe has succeeded. When all are ejected, all are asked: no
//     suspicion empties a pool;
//   - an instance that says it is going down is passed over at once, and
//     finishes what it has. So logic processes can be restarted one after the
//     other without a failed request.
package route
