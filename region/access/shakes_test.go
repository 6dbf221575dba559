package access

import (
	"context"
	"testing"
)

// One comes in when another one leaves; nobody waits beyond the server's end.
func TestShakes(t *testing.T) {
	s := make(shakes, 1)
	ctx, cancel := context.WithCancel(context.Background())
	if !s.enter(ctx) {
		t.Fatal("the first has to wait")
	}
	second := make(chan bool)
	go func() { second <- s.enter(ctx) }()
	s.leave()
	if !<-second {
		t.Error("the second is not let in")
	}
	cancel()
	if s.enter(ctx) {
		t.Error("the third is let in")
	}
	s.leave()
}
