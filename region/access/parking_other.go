//go:build !linux

package access

import (
	"errors"
	"syscall"
	"time"
)

// parking waits for silent connections; here with a goroutine for each. Closing a
// connection and its read deadline wake it, so nobody has to say so.
type parking struct{}

type spot struct{}

func newParking(time.Duration) (*parking, error) { return &parking{}, nil }

func (*parking) park(q *quiet, woken func(error)) {
	go func() { woken(q.await()) }()
}

func (*parking) wakeUp(*quiet, error) {}

func (*parking) run() {}

func (*parking) sweep(<-chan struct{}) {}

func (*parking) stop() {}

func (*parking) free() {}

// await blocks until there is something to read, the peer is gone or the read
// deadline passes.
func (q *quiet) await() error {
	slept := false
	return q.raw.Read(func(fd uintptr) bool {
		if slept {
			return true
		}
		slept = true
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		return !errors.Is(err, syscall.EAGAIN)
	})
}
