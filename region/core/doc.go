// Package core is the IM core of a region: accounts, devices, contacts,
// messages and groups over a store.
//
// It guarantees that a message is durable before anybody is notified, that a
// retried mutation takes effect once, that an owner's message sequence is dense
// and never shows a larger number before a smaller one is stored, and that a
// command's effect is idempotent by the command's ID.
package core
