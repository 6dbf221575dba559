package core

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// The tables. A number's range is its class (see journal.Table); numbers are
// on disk and in queues: append only. Numbers in keys are big-endian, so that
// key order is numeric order.
const (
	// tableAccount: one row (keySingle) per owner, an AccountRow.
	tableAccount journal.Table = 1
	// tableMember: of a group, by member UIN (8 bytes), a MemberRow.
	tableMember journal.Table = 2

	// tableDevice: by device key ID (8 bytes), a DeviceRow.
	tableDevice journal.Table = 100
	// tableInbox: by sequence (8 bytes), dense from 1, a Message without its
	// sequence, which is the key.
	tableInbox journal.Table = 101
	// tableMessage: by message ID (16 bytes), the sequence in the inbox (8
	// bytes); of a group, which has no inbox, or of a message that a block kept
	// out, 0. It is the retry table: a
	// message whose ID is here was taken already.
	tableMessage journal.Table = 102
	// tableContact: by UIN (8 bytes), a ContactRow.
	tableContact journal.Table = 103
	// tableContactHead: one row (keySingle), a ContactHeadRow.
	tableContactHead journal.Table = 104
	// tableOnce: by onceKey or command ID (16 bytes), a OnceRow.
	tableOnce journal.Table = 105
	// tableDeadLetter: by origin, partition and sequence, a DeadLetterRow. Of
	// the command's target.
	tableDeadLetter journal.Table = 106
	// tableRead: by UIN of the peer (8 bytes), a ReadRow.
	tableRead journal.Table = 107
	// tableReadHead: one row (keySingle), a ReadHeadRow.
	tableReadHead journal.Table = 108
	// tableMade: one row (keySingle), a MadeRow.
	tableMade journal.Table = 109
	// tableSetting: by the 16-byte hash of its name, a SettingRow.
	tableSetting journal.Table = 110
	// tableSettingHead: one row (keySingle), a SettingHeadRow.
	tableSettingHead journal.Table = 111
	// tableInboxHead: one row (keySingle), an InboxRow. There is none while the
	// inbox is whole.
	tableInboxHead journal.Table = 112

	// tableTail: by origin, partition and sequence, a TailRow.
	tableTail journal.Table = 120

	// tableMove: one row (keySingle), a MoveRow.
	tableMove journal.Table = 121

	// tableRange: of nobody, one row (keySingle), a RangeRow.
	tableRange journal.Table = 200
	// tableRegistration: of nobody, by the 16-byte hash of device key and
	// idempotency key, the UIN reserved (8 bytes). Local, so a Register that is
	// retried in another region after a failover makes another user; the first
	// one was never seen by anybody.
	tableRegistration journal.Table = 201
	// tableLostLetter: tableDeadLetter for commands without a target, or with
	// one that this region does not act for. Of nobody.
	tableLostLetter journal.Table = 202
	// 203 was an index of conflicts.

	// tableLeft: one row (keySingle), the moves (8 bytes) of an owner who moved away
	// while this region keeps the new home's copies: what was here has been taken
	// back from the old home's. Local, because doing that twice changes nothing.
	tableLeft journal.Table = 204
)

var keySingle = []byte{0}

// nobody owns the rows that are the region's own. It is no UIN that ids allots,
// and its rows are all local, so it is in no journal.
const nobody region.UIN = math.MaxUint64

func keyUIN(u region.UIN) []byte    { return keyNumber(uint64(u)) }
func keySequence(seq uint64) []byte { return keyNumber(seq) }
func keyNumber(n uint64) []byte     { return binary.BigEndian.AppendUint64(nil, n) }
func numberOf(b []byte) (uint64, bool) {
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// MessageID names a message: whoever retries a send, wherever, gets the same
// one. It is the first 16 bytes of SHA-256 over "homing.message", a zero byte,
// the sender's eight big-endian bytes and the client message ID.
func MessageID(sender region.UIN, clientMessageID string) [16]byte {
	return digest("homing.message", keyUIN(sender), []byte(clientMessageID))
}

// digest is the first 16 bytes of SHA-256 over a context, a zero byte and the
// parts. Every part but the last has a fixed length in each context.
func digest(context string, parts ...[]byte) [16]byte {
	h := sha256.New()
	h.Write([]byte(context))
	h.Write([]byte{0})
	for _, p := range parts {
		h.Write(p)
	}
	return [16]byte(h.Sum(nil)[:16])
}
