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
	Resent       EventKind = "resent"       // MessageID was sent again, under another epoch or because no answer had come
	Refused      EventKind = "refused"      // MessageID was sent again and refused for good: Err says why; it is forgotten
)

// Event tells what happened to the connection, or to a message that is kept.
type Event struct {
	Kind      EventKind
	At        time.Time
	Endpoint  netip.AddrPort
	Region    region.ID
	POP       string        // "" when connected to the region itself
	Source    string        // of endpoints: "httpdns", "dns", "cached", "fallback", "redirect"
	Endpoints int           // how many were found
	Took      time.Duration // from the first attempt to ready
	World     uint64
	MessageID string // client message ID, of Resent and Refused
	Repeated  bool   // of Resent: the region had the message already
	Err       error
}

// Events returns the channel of events. A reader that is too slow misses the
// oldest ones. It is closed by Close. With Options.OnEvent they go there.
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

// deliver hands events and notices to the app's callbacks, one at a time, until
// the client is closed.
func (c *Client) deliver() {
	events, notices := c.events, c.notices
	if c.o.OnEvent == nil {
		events = nil
	}
	if c.o.OnNotice == nil {
		notices = nil
	}
	for {
		select {
		case e := <-events:
			c.o.OnEvent(e)
		case n := <-notices:
			c.o.OnNotice(n)
		case <-c.ctx.Done():
			return
		}
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
