// Package core is the IM core of a region: accounts, devices, contacts,
// messages and groups over a store.
//
// # Guarantees
//
//  1. A message is durable before anybody is notified, and before its sender is
//     answered.
//  2. A retried mutation takes effect once. Sends are told apart by (sender,
//     client message ID), everything else by its idempotency key; the same key
//     with another request is refused as a conflict. Messages are remembered for
//     good, idempotency keys for 30 days at least.
//  3. An inbox's sequence is dense, begins at 1, and never shows a larger number
//     before a smaller one is stored. One sender's messages keep their order.
//  4. A command's effect is idempotent: executing a stream again, whole or in
//     part, changes nothing.
//  5. Nothing that was accepted is dropped silently: what cannot be applied is
//     kept as a dead letter, which holds up nobody until an operator replays or
//     discards it, and a message that reaches nobody is answered by a
//     system message to its sender.
//  6. Nothing is written for an owner but by the region that acts for the
//     owner's home, at the epoch of that moment (region.View.Admit).
//
// # How a message travels
//
// Send commits one batch of the sender's: an entry of the sender's own inbox, its
// row in the index of message IDs, and a command to the target. The command is
// read from the journal by the region that acts for the target's home: here by
// the core itself, elsewhere after the replicator brought it. Executing it
// commits one batch of the target's: an inbox entry and an index row. So a 1:1
// message is four rows and a command, in two commits.
//
// A group has no inbox. Its region takes a post once, by the same index, and
// writes one command per region in which members live; each region puts the
// message into the inboxes of its members. The sender is listed too, and finds
// the message there already.
//
// # Who may not be known
//
// Accounts and memberships are shared rows, which reach other regions a moment
// later. Whoever is asked about an owner of another region whose account is not
// here accepts, and leaves the answer to the owner's own region:
//
//   - a message to nobody is kept as a dead letter there, and its sender gets a
//     system message "undelivered" from the target, whose client message ID is
//     "undelivered/" and that of the message;
//   - a post by somebody who is not a member is answered the same way;
//   - a change of members that the rules forbid is answered by a system message
//     "refused" from the group.
//
// # Blocks
//
// What a blocked user sends, and its contact requests, are dropped where they
// arrive: by the region that acts for the one who blocks, at the moment they
// arrive. The sender is answered as if they were delivered, and is never told. What
// was dropped stays dropped when the block ends. Groups, and messages written by
// regions, are not concerned. A block is part of the contact and is synced
// to all devices with it; nothing but BlockUser ends it.
//
// # Groups
//
// A group has one owner, up to MaxAdmins admins, and members; the rules are in
// group_rules.go. When its owner leaves, an admin inherits it, or else a member.
// What is asked of a group of another region is judged there, when it arrives.
//
// # Erasure
//
// EraseAccount, or an administrator's Erase, marks the account and revokes its
// devices in one commit, whose command wipes the rest in steps: inbox, index,
// contacts, settings, devices, dead letters, idempotency keys. The account leaves
// the groups that its inbox tells of and, if asked for, what it sent is emptied in
// the inboxes of others. The deletions are journalled like any write, so replicas
// follow, and a successor goes on with them. What is left, and until when:
//
//   - for ever: the row that says "erased" with its time, tombstones (keys that
//     are numbers and hashes, versions, epochs), the UIN in the contacts and
//     messages of others, and the handle in ids, so that nobody else gets either;
//   - what others have: messages that they received, unless they are emptied, and
//     what they wrote themselves;
//   - in journals, until every region has applied the records and they are
//     trimmed; in the queue, until its retention;
//   - in the files of a store, until the engine rewrites them: by and by, or at
//     once by its Purge (homing store purge); in PostgreSQL's write-ahead log until
//     the server recycles it; and in backups.
//
// The events of system messages are: group-created, group-updated, role-changed,
// join-request, member-added, member-removed, undelivered, refused, device-added,
// device-revoked, contact-request, contact-accepted, contact-refused,
// message-recalled; and recalled, which stands in the place of a message that was
// taken back.
//
// # Bytes
//
// A message ID is the first 16 bytes of SHA-256 over "homing.message", a zero
// byte, the sender's UIN in eight big-endian bytes, and the client message ID.
// Rows and command payloads are the messages of homing.v1's stored.proto; tables
// and keys are in tables.go, command methods in command.go.
package core
