package storetest_test

import (
	"testing"

	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Factory {
		var m *storetest.Memory
		return func(_ testing.TB, c storetest.Config) store.Store {
			if m == nil {
				m = storetest.NewMemory(c)
			} else {
				m = m.Reopen(c.Now)
			}
			return m
		}
	})
}
