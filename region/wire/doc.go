// Package wire is the frame around the bodies of homing.v1, the numbers of the
// methods, the proofs, and the one place where errors cross the wire. This
// comment, the .proto files beside region/homingv1 and a protobuf codec are all
// that is needed to write a client in another language.
//
// The package guarantees that a frame read is whole, at most 1 MiB, and of
// known flags; that a peer cannot make a [Reader] hold more than it has sent;
// and that what a released version wrote is read by every later one (testdata).
//
// # Frame
//
// A long connection is a sequence of frames each way. All integers are
// big-endian.
//
//	offset  size  field
//	0       4     length of the body, bytes; at most 1,048,576
//	4       2     method
//	6       2     flags
//	8       8     sequence
//	16      ...   body: one protobuf message, or nothing
//
// Flags: bit 0 (0x0001) response, bit 1 (0x0002) push, bit 2 (0x0004) error,
// bit 3 (0x0008) retryable, bit 4 (0x0010) compressed. A request has none of
// them; a client sends nothing but requests. A response has the response flag
// and the sequence of its request; responses may come in any order. A push has
// the push flag and sequence 0. With the error flag the body is an Error; with
// the retryable flag too, the same request may succeed later. Bit 4 is reserved
// and refused in wire version 1, as is every other bit. A peer that sends a
// frame which cannot be is answered with a push of GOAWAY carrying the error
// flag, and disconnected.
//
// The client chooses sequences: from 1, growing by one.
//
// # Methods
//
//	1  HELLO      client  Hello -> HelloReply (or REDIRECT, or Error)
//	2  HEARTBEAT  client  Heartbeat -> HeartbeatReply
//	3  REDIRECT   server  Redirect, as the response to HELLO or as a push
//	4  GOAWAY     server  push: GoAway, or Error with the error flag
//	5  REHOMED    server  push: Rehomed
//	6  REAUTH     client  Reauth -> ReauthReply; as a push: Reauth with a nonce only
//	16 NOTICE     server  push: Notice
//	32 ...        client  the methods of homing.v1.IM; numbers stand in im.proto
//
// Messages of the first seven are in connection.proto, with their field
// numbers; the others in im.proto. An unknown field is skipped. A client skips
// pushes of methods it does not know. Numbers are never re-used.
//
// # Endpoints
//
// Where to connect is asked of the smart DNS, by HTTP or by DNS; both give the
// same answer. By HTTP:
//
//	GET /d?host=long.demo.test&uin=1000001&ver=80003&platform=ios
//
// uin may be left out before there is one, ver and platform always. Of the JSON
// object that comes back, use endpoints, an array of "host:port", best first (an
// IPv6 host is in brackets), for ttl seconds. By DNS the name is
// u-<uin>.v-<version>.long.<zone>; SRV has the ports, A and AAAA do not. The
// rest is in dns/authority. Services are long, short and web.
//
// Try the endpoints in order, the next one when one does not answer; and when
// nobody tells any, those that worked before. An endpoint is a POP or a region,
// and the client need not know which.
//
// # Handshake
//
//  1. TCP to an endpoint (from HTTPDNS, DNS or a redirect; see Endpoints).
//  2. TLS 1.3. The server name is the name of the service, "long." and the
//     zone (long.demo.test), never the endpoint's address. The certificate has to
//     chain to the CA of the world (ca_cert of the installation). No ALPN. On loopback
//     a region may be configured to leave TLS out.
//  3. The client sends HELLO, sequence 1, with Hello: wire_version 1, its UIN,
//     client version, platform (at most 32 bytes), the newest world version it
//     has heard of (0 at first), the device key ID (first 8 bytes of SHA-256 of
//     the 32-byte ed25519 public key), the ticket, and a connection ID: 16 random
//     bytes, made when the app starts and kept while it reconnects.
//  4. The server answers one of
//     - HELLO, response: HelloReply with nonce (32 bytes), region, the owner's
//     epoch, world version, and the POP's name when one relays;
//     - REDIRECT, response: another region acts for this user. Close, and begin
//     again at 1 with the first endpoint of the list that answers. See Redirects;
//     - HELLO, response and error: see Errors. The server closes.
//  5. The client sends REAUTH, sequence 2, with Reauth: the nonce, and the
//     signature of the connection proof (below).
//  6. The server answers REAUTH, response, with ReauthReply: heartbeat_seconds,
//     and when the ticket expires. Or with an error, and closes. Now the client
//     may send requests, any number at once; the server works on 32 of one
//     connection at a time and executes Sends in the order they were sent.
//
// The server allows 10 s from TCP to step 6, and 8 KiB per frame until then. A
// second connection of the same UIN, device and connection ID ends the first.
//
// # After the handshake
//
// Heartbeats: the client sends HEARTBEAT when it has sent nothing for
// heartbeat_seconds (the newest that a ReauthReply or HeartbeatReply said). The
// server closes after two and a half times that in silence. No answer for 10 s
// means that the connection is dead.
//
// Notices: NOTICE says that the inbox grew, up to sequence, and carries the
// message when it is small. It is a hint and may be missing: Sync is the truth.
// What a user sends is in the user's own inbox, too, so all the user's
// connections are told of it, before or after the SendResponse.
//
// Sync: send the snapshot of the last SyncResponse (nothing the first time),
// store what comes and then its snapshot, ask again while more is set. The
// snapshot is opaque. After a failover messages may come again: drop IDs
// that are there already. full says that the answer starts over, because the
// snapshot was empty or is unknown: what comes, until more is not set, replaces
// account and contacts, and is merged into the messages by ID.
//
// GOAWAY: connect again after a random part of delay_milli, elsewhere if there
// is a choice. REHOMED: a POP moved the connection to another region; requests
// that are unanswered have to be sent again, under the same idempotency
// keys, after the REAUTH that the new region asks for.
//
// REAUTH as a push: the server wants a new proof, because the ticket is
// about to expire or the connection was rehomed. When the ticket expires soon, get another one
// (Challenge and Login, on this very connection or on the short one); then send
// a REAUTH request with the nonce of the push, the ticket, and the connection proof over
// that nonce, with the region and epoch of HelloReply or, newer, of REHOMED.
//
// # Proofs
//
// The device key is an ed25519 key (RFC 8032). What is signed are these bytes,
// where str(x) is the length of x as 4 bytes and then x, u64(n) is 8 bytes, and
// \0 is a zero byte:
//
//	login:      "homing.login.v1\0"      str(region) u64(uin) str(nonce)
//	connection: "homing.connection.v1\0" str(region) u64(epoch.moves) u64(epoch.counter) epoch.raised[8]
//	            str(connection_id) str(nonce) u64(uin)
//	device:     "homing.device.v1\0"     str(act) u64(uin) str(subject)
//	request:    "homing.request.v1\0"    str(procedure) u64(unix_milli) u64(uin) sha256(body)[32]
//
// Login: Challenge gives nonce and region; Login sends the signature back and
// returns a ticket. It needs no ticket and so also renews one that expired. The
// bytes of a new ticket may equal those of the old one.
// In the connection proof region, epoch and nonce are those of HelloReply, the
// connection ID that of Hello. A missing epoch is all zero; epoch.raised of a
// missing or empty field is eight zero bytes.
//
// Device proof: a change of a user's devices is vouched for by the device that
// asks. AddDevice signs the act "add" over the new device's public key,
// RevokeDevice the act "revoke" over the 8-byte device key ID. A new device is told its
// UIN by the old one (a QR code), sends its public key back the same way,
// and logs in once it was added.
//
// # Short connection
//
// HTTP/1.1 or HTTP/2, over TLS with the server name of the endpoint's service,
// "short." and the zone; on loopback plain HTTP. The same bodies by Connect: POST /homing.v1.IM/Send with Content-Type
// application/json (proto3 JSON: bytes are base64, 64-bit numbers strings, field
// names lowerCamelCase, snake_case is understood) or application/proto, or gRPC
// and gRPC-Web. All but Register, Challenge and Login need two headers:
//
//	Authorization: Homing <ticket>
//	Homing-Proof: <unix milliseconds>.<standard padded base64 of the signature>
//
// The signature is the request proof over the procedure ("/homing.v1.IM/Send")
// and the HTTP body exactly as sent: after compression, with gRPC's five bytes
// of prefix where gRPC is spoken. The time may be off by five minutes, either
// way. Somebody who recorded a request inside TLS could replay it in that
// window; that is harmless, because every mutation carries an idempotency key
// and takes effect once, and an answer goes to whoever already saw the first one.
// Optional headers: Homing-Uin (decimal; a POP routes by it, so send it with
// Challenge and Login, which have no ticket), Homing-Version, Homing-Platform, and
// Homing-World (world version heard of; also in every answer).
//
// A region that does not act for the user answers, and does not proxy: error
// failed_precondition whose detail is a homing.v1.Error with a Redirect, and a
// header Homing-Redirect: host:port,host:port. Ask the first of these.
//
// # Errors
//
// An Error has code and name (region.Kind: 1 internal, 2 bad-input,
// 3 unauthenticated, 4 forbidden, 5 not-found, 6 conflict, 7 wrong-region,
// 8 unavailable, 9 overloaded, 10 too-large, 11 unsupported), message and hint
// for people, retryable, retry_after_milli, and the world version of the node.
// Branch on code and retryable, nothing else:
//
//	retryable       the same request, same idempotency key, after retry_after_milli or
//	                a growing, jittered pause
//	wrong-region    follow the redirect
//	unauthenticated log in with the device key, once; then ask the user
//	anything else   the request is wrong and stays wrong
//
// A connection that ends before an answer came is retryable. On the short
// connection the Error is the first detail of the Connect error, which is JSON, the
// body of an answer whose status is not 200 (value: protobuf in base64 without
// padding):
//
//	{"code": "unauthenticated", "message": "...", "details": [{"type": "homing.v1.Error", "value": "CAMSD..."}]}
//
// Regions and POPs always send it. An answer without it comes from something else
// on the way, such as a proxy. Code unavailable and statuses 502 to 504 are
// retryable then, and anything else is wrong and stays wrong.
//
// # Redirects
//
// A Redirect names home and acting region, endpoints (host:port, best first),
// world version and the owner's epoch. Remember the world version and send it in
// the next Hello: a region that is behind it answers "unavailable, retry" in place of
// a redirect, so that two regions never throw a client to and fro. After three
// redirects in a row, pause.
//
// # What a failover may lose
//
// A message is durable in its region when Send is answered, and reaches the
// region's backup a moment later. SendResponse.mark says where it stands, and
// SyncResponse.held how much the backup has. A client that wants to lose nothing
// keeps what it has sent until held is of the same epoch (HelloReply or REHOMED) and
// incarnation and not below the mark. When it meets another epoch or a newer incarnation
// before, it sends what it kept again, under the same client_message_id.
//
// # Idempotency
//
// client_message_id and idempotency_key are 1 to 64 bytes of the client's
// choice, unique per user. The same key means the same act: a retry returns the first
// answer (repeated is set in SendResponse). A region remembers messages for good,
// and the other keys for 30 days at least.
package wire
