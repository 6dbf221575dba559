// Package plain writes batches the plain way, for benchmarks to compare the
// engine with on the same disk: each caller's batch goes to Pebble by itself, and
// Pebble's own commit pipeline is what shares the fsyncs.
//
// It guarantees as much durability as the engine, and nothing else: no
// preconditions, no versions, no journal, no digests, no readers that see durable
// rows only. It is for nothing but measuring.
package plain

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region/store"
)

// Store is the peer.
type Store struct{ db *pebble.DB }

// Open opens Pebble in a directory as it comes, but with memtables of so many
// bytes.
func Open(dir string, memory int64) (*Store, error) {
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, MemTableSize: uint64(memory), Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Commit writes a batch and waits until it is durable.
func (s *Store) Commit(b *store.Batch) error {
	batch := s.db.NewBatch()
	key := make([]byte, 0, 64)
	for i := range b.Writes {
		w := &b.Writes[i]
		key = binary.BigEndian.AppendUint64(key[:0], uint64(b.Owner))
		key = append(append(key, byte(w.Table)), w.Row...)
		if err := batch.Set(key, w.Value, nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	return errors.Join(batch.Commit(pebble.Sync), batch.Close())
}

// Close closes Pebble.
func (s *Store) Close() error { return s.db.Close() }

type quiet struct{}

func (quiet) Infof(string, ...any)            {}
func (quiet) Errorf(string, ...any)           {}
func (quiet) Fatalf(message string, _ ...any) { panic("pebble: " + message) }
