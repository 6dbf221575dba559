package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/homing-im/homing/deploy/lab/wan"
	"github.com/homing-im/homing/deploy/test/kafkatest"
)

// brokers is how many a region's Kafka cluster has: one may die.
const brokers = 3

// cluster makes the site's Kafka cluster, in its namespace; it does not run yet.
func (l *location) cluster(dir string) (*kafkatest.Cluster, error) {
	if err := kafkatest.Available(); err != nil {
		return nil, err
	}
	return kafkatest.New(dir, kafkatest.Options{Brokers: brokers, Host: l.address.String(), Start: func(cmd *exec.Cmd) (chan struct{}, error) {
		if err := l.ns.Start(cmd); err != nil {
			return nil, err
		}
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }()
		return exited, nil
	}})
}

// killBroker ends one of a region's brokers.
func (w *world) killBroker(at string) (string, error) {
	c := w.kafka[wan.Site(at)]
	if c == nil {
		return "", fmt.Errorf("the queue of %s is not Kafka: say queue %s kafka", at, at)
	}
	c.Brokers[0].Kill()
	return fmt.Sprintf("1 of %d brokers of %s is gone", len(c.Brokers), at), nil
}

// killQueue ends all of a region's queue.
func (w *world) killQueue(at string) error {
	if c := w.kafka[wan.Site(at)]; c != nil {
		for _, b := range c.Brokers {
			b.Kill()
		}
		return nil
	}
	killed, err := w.killOne(at + "-queue")
	if err == nil && !killed {
		err = fmt.Errorf("the queue of %s does not run", at)
	}
	return err
}

// startQueue runs what of a region's queue does not run, with what it had, and
// waits until it serves.
func (w *world) startQueue(ctx context.Context, at string) error {
	if c := w.kafka[wan.Site(at)]; c != nil {
		return c.Start()
	}
	if err := w.run(w.sites[wan.Site(at)], at+"-queue"); err != nil {
		return err
	}
	return w.ready(ctx, wan.Site(at))
}

// loseQueue kills a region's embedded broker, wipes its disk, and starts it again.
func (w *world) loseQueue(ctx context.Context, at string) error {
	if w.kafka[wan.Site(at)] != nil {
		return fmt.Errorf("the queue of %s is Kafka, which is wiped by the tests of package replicator", at)
	}
	if err := w.killQueue(at); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "state", at+"-queue")); err != nil {
		return err
	}
	return w.startQueue(ctx, at)
}
