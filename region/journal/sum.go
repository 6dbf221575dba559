package journal

import (
	"encoding/binary"

	"github.com/homing-im/homing/region"
)

// RowSum is the digest of a row: see the package comment for its bytes. A
// tombstone has one too; value is then empty.
func RowSum(owner region.UIN, t Table, row []byte, version uint64, e region.Epoch, deleted bool, value []byte) Sum {
	var stack [512]byte // holds most rows, so that hashing them allocates nothing
	return SumOf(AppendRowSum(stack[:0], owner, t, row, version, e, deleted, value))
}

// AppendRowSum appends the bytes [RowSum] hashes.
func AppendRowSum(dst []byte, owner region.UIN, t Table, row []byte, version uint64, e region.Epoch, deleted bool, value []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(owner))
	dst = append(dst, byte(t))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(row)))
	dst = append(dst, row...)
	dst = binary.BigEndian.AppendUint64(dst, version)
	dst = binary.BigEndian.AppendUint64(dst, e.Moves)
	dst = binary.BigEndian.AppendUint64(dst, e.Term.Counter)
	dst = append(dst, e.Term.Raised[:]...)
	dst = append(dst, bit(deleted))
	return append(dst, value...)
}
