// Package accel is the POP: it stands near users and carries their connections
// to the region that acts for them.
//
// It guarantees:
//
//  1. A long connection goes to the region that acts for its UIN under the
//     newest world this POP has ([POP.Choose]), or, once, to the region that one
//     redirects to. Addresses come from the verified world only, never from a
//     redirect or a client.
//  2. The client's bytes reach the region unchanged, HELLO included. The only
//     frames a POP makes up are errors in reply to HELLO, and GOAWAY pushes
//     between two frames of the region.
//  3. A POP holds no key that speaks for a user and checks no ticket. What it
//     reads of one (the UIN) only chooses the way; the region verifies it.
//  4. A client that is slow, silent or hostile costs what the limits in
//     [Options] say, and nobody else anything.
//
// # Long connections
//
// The POP reads exactly the first frame, which has to be HELLO and at most
// MaxHello bytes, dials the region's long listener, sends a PROXY protocol v2
// header with the client's address and, in TLV 0xE0, its own POP ID, then (under
// TLS, server name long.<zone>) the HELLO as it came. The region's reply goes to
// the client, and from then on bytes go both ways.
//
// # Short and web
//
// HTTP requests go to the region that acts for the UIN in the header Homing-Uin;
// without it, in the query parameter uin (a browser's WebSocket cannot set
// headers); without that, in the sub claim of the ticket in Authorization.
// None of them is verified here. A request without a UIN, which only Register
// needs to be, goes to the nearest region. X-Forwarded-For carries the client's
// address, Homing-Pop this POP's ID. Bodies are limited to MaxRequest bytes.
package accel
