package replicator_test

import (
	"os"
	"sync"
	"testing"

	"github.com/homing-im/homing/deploy/test/kafkatest"
)

// apache is the cluster that the tests on Apache Kafka share: three brokers, three
// copies, two of which make a message acknowledged. Starting it takes longer
// than most tests.
var apache apacheCluster

type apacheCluster struct {
	once sync.Once
	*kafkatest.Cluster
	err error
}

// needApache returns the cluster, running. The tests that call it are named
// TestApache..., and are a suite of their own, which sets the variable.
func needApache(t *testing.T) *apacheCluster {
	t.Helper()
	if os.Getenv("HOMING_TEST_KAFKA") == "" {
		t.Skip("make test-kafka runs it")
	}
	if err := kafkatest.Available(); err != nil {
		t.Skip(err)
	}
	apache.once.Do(func() { apache.Cluster, apache.err = kafkatest.New("", kafkatest.Options{Brokers: 3}) })
	if apache.err == nil {
		apache.err = apache.Start()
	}
	if apache.err != nil {
		t.Fatal(apache.err)
	}
	return &apache
}

func (c *apacheCluster) stop() error {
	if c.Cluster == nil {
		return nil
	}
	return c.Stop()
}

func (c *apacheCluster) addresses() string { return c.Addresses() }
func (c *apacheCluster) size() int         { return len(c.Brokers) }
func (c *apacheCluster) replication() int  { return 3 }
func (c *apacheCluster) durable() bool     { return true }
func (c *apacheCluster) kill(i int)        { c.Brokers[i].Kill() }
func (c *apacheCluster) start() error      { return c.Start() }

func (c *apacheCluster) logs() (all []string) {
	for _, b := range c.Brokers {
		all = append(all, filesBelow(b.Logs(), ".log", "homing.")...)
	}
	return all
}

// TestApacheKafkaDisasters is DESIGN's queue: what real brokers do when they are
// killed, wiped, too late, or fooled.
func TestApacheKafkaDisasters(t *testing.T) { disasters(t, needApache(t)) }
