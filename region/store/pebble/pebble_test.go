package pebble_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract runs the suite on a file system in memory; TestContractOnDisk
// runs it where fsync is one.
func TestContract(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Factory { return factory("/store", vfs.NewMem()) })
}

func TestContractOnDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("many fsyncs")
	}
	storetest.Run(t, func(t testing.TB) storetest.Factory { return factory(t.TempDir(), vfs.Default) })
}

func factory(dir string, fs vfs.FS) storetest.Factory {
	return func(t testing.TB, c storetest.Config) store.Store {
		t.Helper()
		s, err := pebble.Open(pebble.Options{Dir: dir, FS: fs, Region: c.Region, Partitions: c.Partitions, Now: c.Now, Memory: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}
