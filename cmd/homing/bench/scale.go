package bench

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Scale says how large a region in parts is, and what its links are.
type Scale struct {
	Dir        string // to work in
	Users      int    // each with one long connection
	TLS        bool   // on the long connections and between the processes
	Partitions int
}

var wholeScale = Scale{Users: 10_000, Partitions: 8}

func (s *Scale) validate() error {
	switch {
	case s.Users < 1 || s.Users > 15_000:
		return fmt.Errorf("--users %d: want 1 to 15000; a process has so many files", s.Users)
	case s.Partitions < 1 || s.Partitions > 1<<12:
		return fmt.Errorf("--partitions %d: want 1 to %d", s.Partitions, 1<<12)
	}
	return nil
}

func (s *Scale) flags(c *cobra.Command) {
	f := c.Flags()
	f.IntVar(&s.Users, "users", s.Users, "each with one long connection")
	f.BoolVar(&s.TLS, "tls", s.TLS, "TLS 1.3 on the long connections and between the processes")
	f.IntVar(&s.Partitions, "partitions", s.Partitions, "of the region's store")
	f.StringVar(&s.Dir, "dir", s.Dir, "directory to work in; a new one is made below it, and removed (default: the system's for temporary files)")
}
