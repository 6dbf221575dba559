package client

import (
	"net/netip"
	"time"

	"github.com/homing-im/homing/region"
)

// EventKind is what happened to the connection.
type EventKind string

// The kinds of events.
const (
	Resolved     EventKind = "resolved"     // endpoints were found; Source says how
	Connected    EventKind = "connected"    // proven and ready, to Region, through POP
	Redirected   EventKind = "redirected"   // another region acts; Region says which
	Rehomed      EventKind = "rehomed"      // the POP moved the connection to Region
	Renewed      EventKind = "renewed"      // the ticket
	Disconnected EventKind = "disconnected" // Err says why; the client connects again
	Failed       EventKind = "failed"       // for good: Err says why; the app has to act
)

// Event tells what happened to the connection.
type Event struct {
	Kind      EventKind
	At        time.Time
	Endpoint  netip.AddrPort
	Region    region.ID
	POP       string        // "" when connected to the region itself
	Source    string        // of endpoints: "httpdns", "dns", "known", "fallback", "redirect"
	Endpoints int           // how many were found
	Took      time.Duration // from the first attempt to ready
	World     uint64
	Err       error
}

// Events returns the channel of events. A reader that is too slow misses the
// oldest ones. It is closed by Close.
func (c *Client) Events() <-chan Event { return c.events }

func (c *Client) emit(e Event) {
	e.At = time.Now()
	c.o.Logger.Debug("connection", "event", string(e.Kind), "endpoint", e.Endpoint, "region", string(e.Region), "pop", e.POP, "source", e.Source, "error", e.Err)
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if !c.eventsClosed {
		sendNewest(c.events, e)
	}
}

// sendNewest puts v into a buffered channel, making room by dropping the
// oldest. Only one goroutine at a time may send.
func sendNewest[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}
