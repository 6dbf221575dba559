package node

import (
	"os"
	"runtime"
	"testing"
)

// Spare processors do not add up, and the operator's word counts.
func TestSpareProcessors(t *testing.T) {
	if os.Getenv("GOMAXPROCS") != "" {
		t.Skip("GOMAXPROCS is set")
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	runtime.SetDefaultGOMAXPROCS()
	machine := runtime.GOMAXPROCS(0)
	for range 3 {
		spareProcessors(spareStore)
	}
	spareProcessors(spareDNS)
	if n := runtime.GOMAXPROCS(0); n != machine+spareStore {
		t.Errorf("%d processors, want %d and %d more", n, machine, spareStore)
	}
	t.Setenv("GOMAXPROCS", "1")
	runtime.GOMAXPROCS(1)
	spareProcessors(spareStore)
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors where the operator said 1", n)
	}
}
