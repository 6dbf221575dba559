package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// brokers is a cluster in processes of its own, which a test may harm.
type brokers interface {
	addresses() string
	size() int
	kill(i int)       // as a power cut does
	start() error     // those that do not run
	logs() []string   // files with messages, which only the dead may be robbed of
	replication() int // copies of a message
	durable() bool    // what it acknowledged survives kill
}

// disasters does to a queue what can happen to one, under traffic, and wants
// each time that the replicas end equal, nothing was lost or done twice, and the
// queue alone carries what is written next.
func disasters(t *testing.T, c brokers) {
	all := func() (n []int) {
		for i := range c.size() {
			n = append(n, i)
		}
		return n
	}
	if c.size() > 1 {
		t.Run("one broker killed", func(t *testing.T) {
			d := newDisaster(t, c)
			c.kill(0)
			d.traffic(30)
			d.shipped() // by those that are left
			d.settle()
			d.start()
			d.traffic(30)
			d.end()
		})
	}
	t.Run("most brokers killed", func(t *testing.T) {
		d := newDisaster(t, c)
		// Without the journals the queue is all there is: had the shipper counted
		// as shipped what no quorum has, the replicas would wait for it for ever.
		d.journals(c.durable() == false)
		for i := range c.size()/2 + 1 {
			c.kill(i)
		}
		d.traffic(30)
		d.halted()
		d.start()
		d.traffic(30)
		d.settle()
		d.journals(true)
		d.end()
	})
	t.Run("topics wiped", func(t *testing.T) {
		d := newDisaster(t, c)
		d.wipe()
		d.traffic(30)
		d.end()
	})
	t.Run("expired unread", func(t *testing.T) {
		d := newDisaster(t, c)
		for _, r := range d.regions {
			r.Replay().Pause()
		}
		d.traffic(30)
		d.shipped()
		d.retain("1")
		d.emptied()
		d.retain("86400000")
		for _, r := range d.regions {
			r.Replay().Resume()
		}
		d.traffic(30)
		d.end()
	})
	t.Run("cut shorter", func(t *testing.T) {
		d := newDisaster(t, c)
		d.traffic(30)
		d.shipped()
		for _, i := range all() {
			c.kill(i)
		}
		files := c.logs()
		if len(files) == 0 {
			t.Fatal("the brokers have no log files")
		}
		cutFiles(t, files)
		d.start()
		d.traffic(30)
		d.end()
	})
	t.Run("repeated and reordered", func(t *testing.T) {
		d := newDisaster(t, c)
		d.shipped()
		q, err := kafka.New(kafka.Options{Brokers: []string{c.addresses()}})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		rng := rand.New(rand.NewPCG(3, 4))
		for range 20 {
			d.traffic(1)
			meddle(d.regions["sh"], "hk", q, rng, true)
		}
		d.end()
	})
	t.Run("everything restarted", func(t *testing.T) {
		d := newDisaster(t, c)
		d.traffic(30)
		for _, r := range d.regions {
			r.stopReplicator()
		}
		for _, i := range all() {
			c.kill(i)
		}
		for _, r := range d.regions {
			r.reopenStore()
		}
		d.start()
		for _, r := range d.regions {
			r.startReplicator()
		}
		d.traffic(30)
		d.end()
	})
}

// admin returns a client to change topics with.
func admin(t *testing.T, c brokers) *kafkago.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	transport := &kafkago.Transport{Context: ctx, ClientID: "test"}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
	})
	return &kafkago.Client{Addr: kafkago.TCP(strings.Split(c.addresses(), ",")...), Transport: transport}
}

// disaster is a world on brokers that are about to be harmed.
type disaster struct {
	*testWorld
	brokers brokers
	admin   *kafkago.Client
	n       int // writes of each region
}

// newDisaster makes a world with something in its queue.
func newDisaster(t *testing.T, c brokers) *disaster {
	t.Helper()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	d := &disaster{brokers: c, admin: admin(t, c)}
	d.testWorld = newWorldOn(t, c.replication(), c.addresses, "sh", "hk")
	d.wipe() // what the world before left
	d.onDisk()
	d.testWorld.start()
	d.traffic(30)
	d.settle()
	d.shipped()
	return d
}

func (d *disaster) traffic(k int) {
	d.t.Helper()
	for range k {
		for _, r := range d.regions {
			r.write(d.n)
		}
		d.n++
	}
}

// start runs what was killed.
func (d *disaster) start() {
	d.t.Helper()
	if err := d.brokers.start(); err != nil {
		d.t.Fatal(err)
	}
}

// journals lets regions ask for each other's journals, or not.
func (d *disaster) journals(up bool) {
	for _, r := range d.regions {
		r.down.set(!up)
	}
}

// end wants everything well, and then what is written next carried by the queue
// alone.
func (d *disaster) end() {
	d.t.Helper()
	d.settle()
	d.shipped()
	d.journals(false)
	d.traffic(10)
	d.settle()
	d.journals(true)
	d.executedOnce(d.n)
}

// shipped waits until the queue has all journals.
func (d *disaster) shipped() {
	d.t.Helper()
	eventually(d.t, func() error {
		for _, r := range d.regions {
			for _, s := range r.Shipper().Status() {
				if s.Shipped != s.Head || s.Error != "" {
					return fmt.Errorf("%s/%d shipped %d of %d: %s", r.id, s.Partition, s.Shipped, s.Head, s.Error)
				}
			}
		}
		return nil
	})
}

// halted waits until all partitions with something to ship say that they do not.
func (d *disaster) halted() {
	d.t.Helper()
	eventually(d.t, func() error {
		for _, r := range d.regions {
			for _, s := range r.Shipper().Status() {
				if s.Shipped != s.Head && s.Error == "" {
					return fmt.Errorf("%s/%d shipped %d of %d and says nothing", r.id, s.Partition, s.Shipped, s.Head)
				}
			}
		}
		return nil
	})
	for _, r := range d.regions {
		halted := 0
		for _, s := range r.Shipper().Status() {
			if s.Error != "" {
				halted++
			}
		}
		if halted == 0 {
			d.t.Errorf("%s ships to a queue that is not there", r.id)
		}
	}
}

func (d *disaster) topics() (all []string) {
	for from := range d.regions {
		all = append(all, journal.Topic(from, journal.Full), journal.Topic(from, journal.Shared))
		for to := range d.regions {
			if to != from {
				all = append(all, journal.Topic(from, journal.StreamTo(to)))
			}
		}
	}
	return all
}

// wipe deletes all topics that are there.
func (d *disaster) wipe() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := d.admin.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: d.topics()})
	if err != nil {
		d.t.Fatal(err)
	}
	for topic, err := range res.Errors {
		if err != nil && !errors.Is(err, kafkago.UnknownTopicOrPartition) {
			d.t.Fatalf("delete %s: %v", topic, err)
		}
	}
}

// retain sets how many milliseconds messages are kept.
func (d *disaster) retain(milli string) {
	d.t.Helper()
	req := &kafkago.IncrementalAlterConfigsRequest{}
	for _, topic := range d.topics() {
		req.Resources = append(req.Resources, kafkago.IncrementalAlterConfigsRequestResource{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: milli, ConfigOperation: kafkago.ConfigOperationSet}},
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := d.admin.IncrementalAlterConfigs(ctx, req)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			d.t.Fatalf("retention of %s: %v", r.ResourceName, r.Error)
		}
	}
}

// emptied waits until retention has taken all there was.
func (d *disaster) emptied() {
	d.t.Helper()
	q, err := kafka.New(kafka.Options{Brokers: []string{d.brokers.addresses()}})
	if err != nil {
		d.t.Fatal(err)
	}
	defer q.Close()
	eventually(d.t, func() error {
		for _, topic := range d.topics() {
			for p := range region.Partition(partitions) {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				b, err := q.Bounds(ctx, replicator.TopicPartition{Topic: topic, Partition: p})
				cancel()
				if err != nil {
					return err
				}
				if b.Start != b.End {
					return fmt.Errorf("%s/%d still has %d messages", topic, p, b.End-b.Start)
				}
			}
		}
		return nil
	})
}

// cutFiles takes the second half of files.
func cutFiles(t testing.TB, files []string) {
	t.Helper()
	for _, f := range files {
		info, err := os.Stat(f)
		if err == nil {
			err = os.Truncate(f, info.Size()/2)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
