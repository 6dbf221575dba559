package bench

import (
	"io"
	"testing"
	"time"
)

func TestCollected(t *testing.T) {
	c := &child{}
	if n, paused := c.collected(); n != 0 || paused != 0 {
		t.Errorf("%d collections, %s", n, paused)
	}
	_, _ = io.WriteString(&c.out, "listening\ngc 1 @0.005s 2%: 0.010+0.42+0.002 ms clock, 0.01+0.1/0.2/0.3+0.002 ms cpu, 4->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 1 P\n"+
		"gc 2 @1.105s 1%: 0.25+1.2+0.738 ms clock, 0.2+0.1/0.2/0.3+0.7 ms cpu, 9->9->8 MB, 9 MB goal, 0 MB stacks, 0 MB globals, 1 P (forced)\n")
	if n, paused := c.collected(); n != 2 || paused.Round(time.Microsecond) != time.Millisecond {
		t.Errorf("%d collections, %s", n, paused)
	}
}
