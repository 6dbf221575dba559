package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// Sizes are numbers of rows, written as 1000, 1k or 1m with commas between.
type Sizes []uint64

// String implements pflag.Value.
func (s *Sizes) String() string {
	all := make([]string, len(*s))
	for i, n := range *s {
		switch {
		case n%1_000_000 == 0:
			all[i] = fmt.Sprintf("%dm", n/1_000_000)
		case n%1000 == 0:
			all[i] = fmt.Sprintf("%dk", n/1000)
		default:
			all[i] = strconv.FormatUint(n, 10)
		}
	}
	return strings.Join(all, ",")
}

// Set implements pflag.Value.
func (s *Sizes) Set(text string) error {
	*s = nil
	for one := range strings.SplitSeq(text, ",") {
		number, unit := one, uint64(1)
		for suffix, value := range map[string]uint64{"k": 1000, "m": 1_000_000} {
			if before, ok := strings.CutSuffix(strings.ToLower(one), suffix); ok {
				number, unit = before, value
			}
		}
		n, err := strconv.ParseUint(number, 10, 40)
		if err != nil || n == 0 || n > 1e10/unit {
			return fmt.Errorf("%q is no number of rows: want one such as 500k or 10m", one)
		}
		*s = append(*s, n*unit)
	}
	return nil
}

// Type implements pflag.Value.
func (s *Sizes) Type() string { return "sizes" }
