package postgres_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/postgres"
)

// TestPatroni has the servers that deploy/patroni makes, kills the primary and
// its Patroni under traffic, takes it back as a standby, and switches over. The
// traffic checks that nothing acknowledged is lost or doubled.
func TestPatroni(t *testing.T) {
	if err := pgtest.PatroniAvailable(); err != nil {
		t.Skip(err)
	}
	// An operator's ttl would be most of the time this takes.
	const ttl = 6
	c, err := pgtest.NewPatroni("../../../deploy/patroni/patroni.yml", 3, map[string]string{"ttl": strconv.Itoa(ttl), "loop_wait": "1", "retry_timeout": "2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	o := options(c.DSN())
	o.Timeout = 3 * time.Second
	s := open(t, o)
	acknowledged, stop := traffic(t, s, 6)
	more(t, acknowledged, 60)

	killed := c.Primary()
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	until(t, "a new incarnation", func() bool { return incarnation(s) == 2 })
	more(t, acknowledged, 1)
	t.Logf("writes served again %.1f s after the primary and its Patroni were killed, with a ttl of %d s", time.Since(start).Seconds(), ttl)
	if now := c.Primary(); now == nil || now == killed {
		t.Errorf("the primary after the failover is %v", now)
	}
	more(t, acknowledged, 60)

	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(); err != nil {
		t.Fatal(err)
	}
	more(t, acknowledged, 60)
	start = time.Now()
	if err := c.Switchover(); err != nil {
		t.Fatal(err)
	}
	until(t, "the switchover's incarnation", func() bool { return incarnation(s) == 3 })
	t.Logf("writes served again %.1f s after a switchover began", time.Since(start).Seconds())
	more(t, acknowledged, 60)
	stop()
	closed(t, s)

	s = open(t, options(c.DSN()))
	defer closed(t, s)
	if n := incarnation(s); n != 3 {
		t.Errorf("opened again, the incarnation is %d", n)
	}
	follow(t, s)
}

// incarnation returns that of all partitions, 0 while they differ.
func incarnation(s *postgres.Store) uint64 {
	n := s.Head(0).Incarnation
	for p := range region.Partition(s.Partitions()) {
		if s.Head(p).Incarnation != n {
			return 0
		}
	}
	return n
}
