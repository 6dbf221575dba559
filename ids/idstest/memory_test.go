package idstest_test

import (
	"testing"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/ids/idstest"
)

func TestMemory(t *testing.T) {
	idstest.Run(t, idstest.Engine{Open: func(testing.TB) ids.Store { return idstest.NewMemory() }})
}
