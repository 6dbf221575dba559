package core

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkMessages sends 1:1 messages within a region, on disk, from the
// request to the acknowledgement; ns/op is of all senders together.
func BenchmarkMessages(b *testing.B) {
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			u := newUniverseWith(b, onDisk, nil, "sh")
			var users []*user
			for i := range senders {
				users = append(users, u.register("sh", fmt.Sprint(i)))
			}
			var n, who atomic.Int64
			took := make([][]time.Duration, senders)
			b.SetParallelism((senders + 1) / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				me := int(who.Add(1)) % senders
				var mine []time.Duration
				for pb.Next() {
					i := n.Add(1)
					start := time.Now()
					if _, err := u.core("sh").Send(ctx, users[me].Caller, textTo(users[int(i)%senders].UIN, fmt.Sprint(me, "/", i), "hello")); err != nil {
						b.Error(err)
						return
					}
					mine = append(mine, time.Since(start))
				}
				if len(mine) > 0 {
					took[me] = mine
				}
			})
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkDelivery is one lone message: from the request to the notice at its
// recipient, within a region, on disk.
func BenchmarkDelivery(b *testing.B) {
	u := newUniverseWith(b, onDisk, nil, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	heard := u.sites["sh"].heard
	var i uint64
	for b.Loop() {
		i++
		u.send(alice, bob.UIN, fmt.Sprint(i), "hello")
		for heard.seen(bob.UIN) < i {
			time.Sleep(20 * time.Microsecond)
		}
	}
}
