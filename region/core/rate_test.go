package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// In any window of time, a key is let through at most its rate and one burst; and
// after the wait that it was told, it is let through.
func TestPace(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rate := rapid.IntRange(1, 1000).Draw(r, "rate")
		interval, burst := time.Second/time.Duration(rate), 2*time.Second
		now, full := time.Unix(1, 0), time.Time{}
		var passed []time.Time
		for range rapid.IntRange(1, 200).Draw(r, "tries") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(interval)*3).Draw(r, "later")))
			next, wait := pace(full, now, interval, burst)
			if wait > 0 {
				if next != full {
					r.Fatal("a refusal costs something")
				}
				if _, again := pace(full, now.Add(wait), interval, burst); again != 0 {
					r.Fatalf("told to wait %s, then %s more", wait, again)
				}
				continue
			}
			full, passed = next, append(passed, now)
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				if n, most := time.Duration(j-i+1), passed[j].Sub(passed[i])+burst; (n-1)*interval > most {
					r.Fatalf("%d in %s", n, passed[j].Sub(passed[i]))
				}
			}
		}
	})
}

// A device that sends too fast is told when to try again; other users are not
// its business.
func TestSendIsPaced(t *testing.T) {
	u := newUniverseWith(t, inMemory, nil, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	var err error
	c.devicePace, err = newPacer[deviceKey](2)
	must(t, err)
	sent := 0
	for err == nil {
		if _, err = c.Send(ctx, alice.Caller, textTo(bob.UIN, fmt.Sprint(sent), "x")); err == nil {
			sent++
		}
		if sent > 50 {
			t.Fatal("never refused")
		}
	}
	var e *wire.Error
	if region.KindOf(err) != region.Overloaded || !region.KindOf(err).Retryable() || !errors.As(err, &e) || e.RetryAfter <= 0 {
		t.Fatal(err)
	}
	if sent < 4 {
		t.Errorf("refused after %d", sent)
	}
	u.send(bob, alice.UIN, "b", "from Bob")
	u.ahead.Add(int64(e.RetryAfter))
	u.send(alice, bob.UIN, fmt.Sprint(sent), "x")
}
