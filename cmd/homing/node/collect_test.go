package node

import "testing"

func TestCollection(t *testing.T) {
	const little, much = 16 << 20, 1 << 30 // bytes that live
	type look struct {
		collections, live uint64
		want              int
	}
	for name, looks := range map[string][]look{
		"idle":                         {{0, little, 100}, {1, little, 100}, {0, little, 100}, {1, little, 100}},
		"busy with little":             {{2, little, 100}, {2, little, 100}, {2, little, 1600}, {1, little, 1600}},
		"busy with much":               {{5, much, 100}, {5, much, 100}, {5, much, 300}, {9, much, 300}},
		"for a moment":                 {{4, little, 100}, {4, little, 100}, {0, little, 100}, {4, little, 100}, {1, little, 100}},
		"few because it is busy":       {{4, little, 100}, {4, little, 100}, {4, little, 1600}, {0, little, 1600}, {1, little, 1600}, {0, little, 1600}, {1, little, 1600}, {0, little, 1600}, {0, little, 1600}},
		"many connect":                 {{0, little, 100}, {4, 2 * little, 100}, {5, 3 * little, 100}, {5, 3 * little, 100}, {1, 3 * little, 100}},
		"and it stays busy":            {{0, little, 100}, {4, 2 * little, 100}, {5, 2 * little, 100}, {5, 2 * little, 800}, {2, 3 * little, 533}},
		"calm again, after five looks": {{4, little, 100}, {4, little, 100}, {4, little, 1600}, {0, little, 1600}, {0, little, 1600}, {1, little, 1600}, {0, little, 1600}, {0, little, 100}},
	} {
		c := collection{percent: idlePercent}
		for i, l := range looks {
			if got := c.look(l.collections, l.live); got != l.want {
				t.Errorf("%s: look %d, %d collections: %d %%, want %d", name, i, l.collections, got, l.want)
			}
		}
	}
}
