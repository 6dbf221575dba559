package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Idempotency keys are forgotten after onceLife, by and by, and not before.
func TestForgetsOldKeys(t *testing.T) {
	u := newUniverse(t, "sh")
	alice := u.register("sh", "Alice")
	rename := func(key, name string) error {
		_, err := u.core("sh").UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Nickname: name, IdempotencyKey: key})
		return err
	}
	count := func() (n int) {
		must(t, u.sites["sh"].store.Scan(ctx, alice.UIN, tableOnce, scanAll, countRows(&n)))
		return n
	}
	const keys = 100
	for i := range keys {
		must(t, rename(fmt.Sprint("old ", i), "A"))
	}
	u.ahead.Add(int64(onceLife - time.Hour))
	must(t, rename("young", "B"))
	for i := range keys {
		wantKind(t, rename(fmt.Sprint("old ", i), "C"), region.Conflict) // each is known
	}
	if n := count(); n != keys+1 {
		t.Fatalf("%d keys, before any is old", n)
	}
	u.ahead.Add(int64(2 * time.Hour))
	for i := range keys {
		must(t, rename(fmt.Sprint("new ", i), "D"))
	}
	// A scan looks at what follows in the order of keys, not around the end, so
	// a few of the last ones may stay.
	if n := count(); n > keys+1+keys/10 {
		t.Errorf("%d keys are left of %d old and %d new", n, keys, keys+1)
	}
	wantKind(t, rename("young", "E"), region.Conflict)
	for i := range keys {
		wantKind(t, rename(fmt.Sprint("new ", i), "E"), region.Conflict)
	}
}
