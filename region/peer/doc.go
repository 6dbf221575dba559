// Package peer authenticates Homing's nodes to each other over HTTP.
//
// Guarantee: behind [Verifier.Require] a handler runs only for a request that
// the named node signed with the key the newest world gives it, at most
// [Window] ago, and never twice for one signature within a process's life.
//
// # Format
//
// A signed request carries four headers:
//
//	Homing-Node       kind "/" name, such as region/sh or pop/pop-1; an operator is
//	                  operator/ and one of the world's operator keys in hex
//	Homing-Time       Unix time in milliseconds, decimal
//	Homing-Nonce      16 random bytes, 32 lower-case hex digits
//	Homing-Signature  base64 (standard, padded) of the ed25519 signature
//
// The signature is over the context string "homing.peer.v1\x00", then these
// fields, each preceded by its length in four big-endian bytes: node, method,
// host (the Host header), path with query (the request target), time, nonce
// (both as their header's text), SHA-256 of the body.
//
// The host is covered so that what one node was told cannot be repeated to
// another within the window: a verifier whose listening address the world
// knows refuses a request made out to another node's admin address. Behind
// address translation it cannot know; there, TLS says so.
//
// Responses are not signed. What must not be forged carries its own signature:
// worlds, acceptances, standings, overlay batches.
//
// # TLS
//
// Beyond loopback all of this is within TLS 1.3, on which both sides show
// certificates of the operator's CA ([ServerTLS], [DialTLS]): the listener that of
// the node whose admin address it is, the caller that of the node that signs the
// request ([CertificateName]). Neither alone lets anybody in: a certificate says
// nothing without the key that the world names, nor that key without a certificate.
package peer
