package node

import (
	"os"
	"runtime"
)

// What waits in the kernel, or computes without a pause, keeps one of the Go
// runtime's processors for up to ten milliseconds, and all else waits for those that
// are left. So the runtime has more of them than the machine:
const (
	// spareDNS for a worker of the DNS server, which waits for packets.
	spareDNS = 1
	// spareStore for an embedded store, which waits for the disk and flushes and
	// compacts. At 12,000 messages a second on two processors that others used, too,
	// half of all messages took less than 24 and 30 ms with two more, 671 and 537 ms
	// without, 40 and 48 ms with four more; the processor time of a message was the same.
	spareStore = 2
)

// spareProcessors gives the runtime some processors more than the machine, or its
// container, has, unless the operator has said how many. It does so once, however
// many nodes there are in the process.
func spareProcessors(more int) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	before := runtime.GOMAXPROCS(0)
	runtime.SetDefaultGOMAXPROCS() // what the machine or a limit of the container allows
	runtime.GOMAXPROCS(max(before, runtime.GOMAXPROCS(0)+more))
}

// SpareForStore is what a node with an embedded store does, for programs that have
// one without a node.
func SpareForStore() { spareProcessors(spareStore) }
