//go:build unix

package replicator_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	testchild "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/replicator/embedded"
)

// The environment that makes the test's program a broker.
const (
	childListen = "HOMING_TEST_BROKER_LISTEN"
	childDir    = "HOMING_TEST_BROKER_DIR"
)

// childBroker is what a child process does: it runs the embedded broker until
// it is killed.
func childBroker(listen, dir string) {
	_, err := embedded.Start(embedded.Options{Listen: listen, Dir: dir, Partitions: partitions, RetainEvery: 100 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

// child is the embedded broker in a process of its own.
type child struct {
	address, dir string
	cmd          *exec.Cmd
	exited       chan struct{}
}

func (c *child) addresses() string { return c.address }
func (c *child) size() int         { return 1 }
func (c *child) replication() int  { return 1 }
func (c *child) durable() bool     { return false }

func (c *child) kill(int) {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		<-c.exited
		c.cmd = nil
	}
}

func (c *child) start() (err error) {
	if c.cmd != nil {
		return nil
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childListen+"="+c.address, childDir+"="+c.dir)
	c.cmd.Stderr = os.Stderr
	if c.exited, err = testchild.Start(c.cmd); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (c *child) logs() []string { return filesBelow(c.dir, ".dat") }

// TestDisastersOfTheEmbeddedBroker kills a real process: what it had in memory
// is gone.
func TestDisastersOfTheEmbeddedBroker(t *testing.T) {
	c := &child{address: testchild.Address(), dir: filepath.Join(t.TempDir(), "queue")}
	t.Cleanup(func() { c.kill(0) })
	disasters(t, c)
}
