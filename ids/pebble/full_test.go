package pebble

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk/disktest"
)

// TestSmallDisk has somebody else fill a real disk while handles are claimed:
// claims are refused with the reason, handles are still resolved, and claims go
// on by themselves once there is room.
func TestSmallDisk(t *testing.T) {
	d := disktest.New(t, 64)
	o := Options{Dir: d.Dir + "/ids", MinFree: 8 << 20}
	s := mustOpen(t, o)
	n := 0
	for range 3 {
		if err := s.Writable(); err != nil {
			t.Fatalf("with room on the disk: %v", err)
		}
		full := make(chan struct{})
		claimed := make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				if i == 20 {
					close(full)
				}
				if _, err := s.Claim(t.Context(), ids.Handle(fmt.Sprintf("user%d", n+1)), region.UIN(n+1)); err != nil {
					claimed <- err
					return
				}
				n++
			}
		}()
		<-full
		d.Fill()
		err := <-claimed
		var e *region.Error
		if !errors.As(err, &e) || e.Kind != region.Unavailable || e.Hint == "" || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Claim on a full disk: %v", err)
		}
		if c, err := s.Resolve(t.Context(), "user1"); err != nil || c.Owner != 1 {
			t.Errorf("Resolve on a full disk: %+v, %v", c, err)
		}
		d.Free()
		for err := s.Writable(); err != nil; err = s.Writable() { // until it looks again
			if region.KindOf(err) != region.Unavailable {
				t.Fatalf("after space was freed: %v", err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	for i := 1; i <= n; i++ {
		if c, err := s.Resolve(t.Context(), ids.Handle(fmt.Sprintf("user%d", i))); err != nil || c.Owner != region.UIN(i) {
			t.Errorf("user%d was acknowledged: %+v, %v", i, c, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
