package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
)

// exampleRegion starts a region for the examples, on loopback and without TLS.
func exampleRegion() (shortURL string, long netip.AddrPort, stop func()) {
	presence, err := access.NewPresence(nil)
	if err != nil {
		log.Fatal(err)
	}
	world := accesstest.NewWorld()
	world.Set(accesstest.View(1, accesstest.Place{ID: "sh"}))
	s, err := access.New(access.Options{
		Region: "sh", World: world, Presence: presence,
		Logic: &accesstest.Logic{Region: "sh", Users: accesstest.NewUsers(1_000_001), Notify: presence.Notify},
		Long:  "127.0.0.1:0", Short: "127.0.0.1:0", Drain: 100 * time.Millisecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	return "http://" + s.Addr(region.Short).String(), s.Addr(region.Long), func() {
		http.DefaultClient.CloseIdleConnections()
		_ = s.Close(context.Background())
	}
}

// Two users register, connect, and one writes to the other.
func Example() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	connect := func(nickname string) (client.Identity, *client.Client) {
		id, err := client.Register(ctx, nil, shortURL, nickname, "example")
		if err != nil {
			log.Fatal(err)
		}
		c, err := client.New(client.Options{
			Identity: id, Platform: "example", ClientVersion: 1,
			Fallback: []netip.AddrPort{long}, Short: shortURL, Plain: true,
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
		return id, c
	}
	_, alice := connect("Alice")
	defer alice.Close()
	bobID, bob := connect("Bob")
	defer bob.Close()

	if _, err := alice.SendText(ctx, bobID.UIN, "hello from Shanghai"); err != nil {
		log.Fatal(err)
	}
	<-bob.Notices() // a hint that there is something
	changes, err := bob.Sync(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range changes.Messages {
		fmt.Printf("%d: %s\n", m.Sender, m.Body.GetText())
	}
	// Output: 1000001: hello from Shanghai
}

// What happens to the connection is told by events.
func ExampleClient_Events() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	id, err := client.Register(ctx, nil, shortURL, "Alice", "example")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{Identity: id, Fallback: []netip.AddrPort{long}, Short: shortURL, Plain: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	e := <-c.Events()
	fmt.Println(e.Kind, e.Region, e.Source)
	c.Close()
	// Output: connected sh fallback
}
