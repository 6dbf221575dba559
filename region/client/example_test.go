package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
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

// exampleUser registers somebody and returns what a client of theirs needs.
func exampleUser(ctx context.Context, shortURL string, long netip.AddrPort, nickname string) client.Options {
	id, err := client.Register(ctx, nil, shortURL, nickname, "example")
	if err != nil {
		log.Fatal(err)
	}
	return client.Options{Identity: id, Fallback: []netip.AddrPort{long}, Short: shortURL, Plain: true}
}

// exampleConnect makes a client and connects it.
func exampleConnect(ctx context.Context, o client.Options) *client.Client {
	c, err := client.New(o)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	return c
}

// What happens to the connection is told by events.
func ExampleClient_Events() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := exampleConnect(ctx, exampleUser(ctx, shortURL, long, "Alice"))
	e := <-c.Events()
	fmt.Println(e.Kind, e.Region, e.Source)
	c.Close()
	// Output: connected sh fallback
}

// Events and notices may come by callback as well. A callback may block and may
// call the client, all but Close.
func ExampleOptions_callbacks() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o := exampleUser(ctx, shortURL, long, "Alice")
	seen := make(chan string)
	o.OnEvent = func(e client.Event) { seen <- fmt.Sprint(e.Kind, " ", e.Region) }
	o.OnNotice = func(n *v1.Notice) { seen <- fmt.Sprint("message ", n.Sequence) }
	c := exampleConnect(ctx, o)
	fmt.Println(<-seen)
	if _, err := c.SendText(ctx, o.Identity.UIN, "note to myself"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-seen)
	c.Close()
	// Output:
	// connected sh
	// message 1
}

// A message is kept, here on disk, until the backup of its region holds it: the
// next client on the same directory goes on with it.
func ExampleClient_Send() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o := exampleUser(ctx, shortURL, long, "Alice")
	o.Dir = dir

	c, err := client.New(o) // not connected yet: she is in a tunnel
	if err != nil {
		log.Fatal(err)
	}
	short, cancelShort := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancelShort()
	_, err = c.Send(short, &v1.SendRequest{To: uint64(o.Identity.UIN), ClientMessageId: "1",
		Body: &v1.Body{Kind: &v1.Body_Text{Text: "typed in a tunnel"}}})
	fmt.Println(region.KindOf(err) == region.Unavailable, len(c.Outbox()))
	c.Close()

	c = exampleConnect(ctx, o)
	defer c.Close()
	for e := range c.Events() {
		if e.Kind == client.Resent {
			fmt.Println(e.Kind, e.MessageID)
			break
		}
	}
	changes, err := c.Sync(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(changes.Messages[0].Body.GetText())
	// Output:
	// true 1
	// resent 1
	// typed in a tunnel
}

// An app stores the snapshot with what it has applied, and goes on there.
func ExampleClient_Sync() {
	shortURL, long, stop := exampleRegion()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o := exampleUser(ctx, shortURL, long, "Alice")
	c := exampleConnect(ctx, o)
	defer c.Close()
	var snapshot []byte // of the last Sync; nil the first time
	for _, text := range []string{"one", "two"} {
		if _, err := c.SendText(ctx, o.Identity.UIN, text); err != nil {
			log.Fatal(err)
		}
		changes, err := c.Sync(ctx, snapshot)
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range changes.Messages {
			fmt.Println(m.Sequence, m.Body.GetText())
		}
		snapshot = changes.Snapshot
	}
	// Output:
	// 1 one
	// 2 two
}
