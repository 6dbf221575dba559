package console_test

import (
	"context"
	"sync"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
)

// feed is a world that the test changes while pages look at it.
type feed struct {
	mu    sync.Mutex
	state console.State
	calls int
}

func (f *feed) State(context.Context) console.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	s := f.state
	s.Time = time.Now()
	return s
}

// change runs with the state locked. Slices are replaced, not written to: a
// State handed out belongs to whoever got it.
func (f *feed) change(do func(s *console.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Regions = append([]console.Region{}, s.Regions...)
	s.POPs = append([]console.POP{}, s.POPs...)
	s.Pairs = append([]console.Pair{}, s.Pairs...)
	s.Alarms = append([]console.Alarm{}, s.Alarms...)
	do(&s)
	f.state = s
}

// newFeed is the demo's world on a quiet day.
func newFeed() *feed {
	s := console.State{
		World: console.World{Name: "demo", Version: 7, Hash: "9f3ac2d1e4b5a69788776655443322110f1e2d3c4b5a69788796a5b4c3d2e1f0", Zone: "demo.test", InForce: true},
		Regions: []console.Region{
			region("sh", "Shanghai", 31.2304, 121.4737, 1284, 42.6, "hk", "ca"),
			region("hk", "Hong Kong", 22.3193, 114.1694, 912, 31.4, "sh", "ca"),
			region("ca", "Toronto", 43.6532, -79.3832, 655, 18.2, "hk", "sh"),
		},
		POPs: []console.POP{
			pop("pop-1", "Hangzhou", 30.27, 120.16, "sh", 640, 4.1, 31, 201),
			pop("pop-2", "Beijing", 39.90, 116.41, "sh", 391, 28, 41, 194),
			pop("pop-3", "Guangzhou", 23.13, 113.26, "hk", 502, 29, 2.8, 204),
			pop("pop-4", "Singapore", 1.35, 103.82, "hk", 366, 66, 35, 221),
			pop("pop-5", "Vancouver", 49.28, -123.12, "ca", 201, 139, 148, 58),
			pop("pop-6", "New York", 40.71, -74.01, "ca", 288, 215, 219, 11),
		},
		DNS: []console.Node{{Name: "dns-1", Address: "127.0.9.1:5301", Healthy: true, PerSecond: 120.5}},
		IDs: []console.Node{{Name: "ids-1", Address: "127.0.9.2:5310", Healthy: true, PerSecond: 3.2}},
	}
	for i, a := range s.Regions {
		for j, b := range s.Regions {
			if i == j {
				continue
			}
			first := "shared"
			if a.Backups[0] == b.ID {
				first = "full"
			}
			for k, stream := range []string{first, "to-" + b.ID} {
				s.Pairs = append(s.Pairs, console.Pair{
					From: a.ID, To: b.ID, Stream: stream, State: console.PairLive,
					Records: uint64(3*i + 5*j + 2*k), Seconds: 0.11*float64(i+j) + 0.04*float64(k),
				})
			}
		}
	}
	return &feed{state: s}
}

func region(id, title string, lat, lon float64, users uint64, rate float64, backups ...string) console.Region {
	return console.Region{
		ID: id, Title: title, Latitude: lat, Longitude: lon, Acting: id, Term: 1, Backups: backups,
		Reachable: true, Ready: true, Users: users, Connections: users + users/9, MessagesPerSecond: rate, WorldVersion: 7,
		Loss: &console.Loss{Backup: backups[0], Records: users / 40, Seconds: 0.4},
	}
}

func pop(id, title string, lat, lon float64, near string, connections uint64, sh, hk, ca float64) console.POP {
	return console.POP{
		ID: id, Title: title, Latitude: lat, Longitude: lon, Near: near, Healthy: true, Connections: connections,
		RTTMillis: map[string]float64{"sh": sh, "hk": hk, "ca": ca},
	}
}
