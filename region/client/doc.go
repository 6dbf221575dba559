// Package client is the Go SDK of Homing: it keeps one long connection of a
// user to the region that acts for the user, wherever that is at the moment.
//
// It guarantees that
//
//   - a call is sent again under the same idempotency key until it is answered
//     or its context ends, through reconnects, redirects and failovers, so that
//     it takes effect at most once;
//   - a message given to [Client.Send] is kept, on disk when Options.Dir says where,
//     until its region's backup holds it; when another epoch begins before, it is
//     sent again under the same ID. However often it is sent, it is stored once;
//   - a redirect is followed at once, and never more than three in a row without
//     a pause;
//   - the ticket is renewed by the device key before it expires, without the
//     caller noticing;
//   - nothing it is told by DNS or a redirect is trusted beyond where to connect:
//     the server has to have the service's certificate.
//
// Endpoints are found by HTTPDNS, then DNS, then what worked before (on disk,
// too), then the built-in list, and are tried beside each other, each a moment
// after the one before (RFC 8305). After a loss of the connection what worked
// before goes first, so that a change of network costs no question to anybody.
//
// Notices are hints: [Client.Sync] is the truth.
//
// Below it lies [Link], one proven connection without any of this, for programs that
// have thousands of them, such as homing bench. They use nothing else than this
// package, and package wire for what they say over it.
package client
