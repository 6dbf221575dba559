//go:build !race

// The race detector multiplies memory, so this is the memory suite's.

package accel

import (
	"strings"
	"testing"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// TestIdleConnectionIsCheap is the promise behind the benchmark: an idle TLS
// connection, two goroutines and two TLS states, holds no relay buffer.
func TestIdleConnectionIsCheap(t *testing.T) {
	const n, most = 500, 64 << 10
	home := newPlace(t, "sh", true, func(a *arrival) {
		a.welcome(t, "sh")
		a.send(t, wire.Notice, wire.FlagPush, 0, &v1.Notice{Message: &v1.Message{Body: &v1.Body{Kind: &v1.Body_Text{Text: strings.Repeat("x", 8<<10)}}}})
		a.echo(t)
	})
	c := startChild(t, true, home)
	before := c.ask("settle")
	all := c.connect(n, true)
	after := c.ask("settle")
	per := (after.Heap - before.Heap + after.Stack - before.Stack) / n
	t.Logf("%d bytes per idle connection", per)
	if after.Conns != n || per > most {
		t.Errorf("%d connections of %d bytes each; at most %d are allowed", after.Conns, per, most)
	}
	hangUp(all)
}
