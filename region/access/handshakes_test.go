package access_test

import (
	"net"
	"testing"
	"time"

	"github.com/homing-im/homing/region/access"
)

// So many handshakes are under way at once; whoever comes beyond is closed at
// once, and comes in when one has ended, well or not.
func TestHandshakesAreBounded(t *testing.T) {
	r := newRig(t, func(o *access.Options) { o.MaxHandshakes = 3 })
	r.raw(1_000_001).login() // proven: it does not count
	var slow []net.Conn
	for range 3 {
		nc := r.dial()
		if _, err := nc.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, nc)
	}
	eventually(t, "the fourth is refused", func() bool {
		nc := r.dial()
		defer nc.Close()
		_ = nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := nc.Read(make([]byte, 1))
		e, ok := err.(net.Error)
		return err != nil && !(ok && e.Timeout()) && r.count("homing_access_rejected_total", "handshakes") > 0
	})
	_ = slow[0].Close()
	key, ticket := r.users.Add(1_000_002)
	eventually(t, "one is let in again", func() bool {
		nc := r.dial()
		_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := nc.Read(make([]byte, 1)); err != nil {
			e, ok := err.(net.Error)
			if !ok || !e.Timeout() {
				return false // closed
			}
		}
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		r.rawWith(nc, 1_000_002, key, ticket).login()
		return true
	})
}
