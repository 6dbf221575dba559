package node

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Journal says how long a region's journal waits for the other regions.
type Journal struct {
	// Budget is how many bytes of the journal are kept for a region that is away:
	// "64GiB", "500MiB". What it misses beyond that is trimmed, and it begins anew by
	// comparing rows; messages to users of a region that nobody acts for are
	// refused then, retryably. Default: without bound.
	Budget string `yaml:"budget,omitempty"`

	bytes uint64
}

// minBudget is below what a region misses while it restarts.
const minBudget = 1 << 20

func (j *Journal) validate(c *Config) error {
	if j.Budget == "" {
		return nil
	}
	if !c.Has(RoleReplicator) {
		return wrongf("journal", "journal is for role replicator only")
	}
	var err error
	if j.bytes, err = parseBytes(j.Budget); err != nil {
		return wrongf("journal.budget", "journal.budget %q: %v", j.Budget, err)
	}
	if j.bytes < minBudget {
		return wrongf("journal.budget", "journal.budget %s is below 1MiB: a region that restarts would have to begin anew", j.Budget)
	}
	return nil
}

// parseBytes reads a whole number of KiB, MiB, GiB or TiB.
func parseBytes(s string) (uint64, error) {
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		number, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
		hi, lo := bits.Mul64(n, 1<<(10*(i+1)))
		if err != nil || hi > 0 {
			break
		}
		return lo, nil
	}
	return 0, fmt.Errorf("want a whole number of KiB, MiB, GiB or TiB, such as 64GiB")
}
