package node

import "testing"

func TestGCPercent(t *testing.T) {
	for _, c := range []struct {
		now         int
		collections uint32
		want        int
	}{
		{idlePercent, 0, idlePercent},
		{idlePercent, 5, idlePercent},
		{idlePercent, 6, busyPercent},
		{busyPercent, 20, busyPercent},
		{busyPercent, 3, busyPercent}, // it is why there are few
		{busyPercent, 1, idlePercent},
	} {
		if got := gcPercent(c.now, c.collections); got != c.want {
			t.Errorf("%d collections at %d %%: %d %%, want %d", c.collections, c.now, got, c.want)
		}
	}
}
