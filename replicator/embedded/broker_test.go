package embedded_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/embedded"
	"github.com/homing-im/homing/replicator/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o embedded.Options) *embedded.Broker {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	o.Partitions = 4
	b, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// batches makes n batches of the full stream that follow each other densely.
func batches(n int) []*journal.Batch {
	head := journal.StreamHead{Stream: journal.Full}
	var out []*journal.Batch
	for i := range uint64(n) {
		b := &journal.Batch{Origin: "sh", Incarnation: 1, Owner: 1000001, Home: "sh", Records: []journal.Record{{
			Seq: i + 1, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 1, Row: []byte("r"), Version: i + 1, Value: []byte("v")}}}}
		link, next := journal.Next(head, b)
		b.Links, head = []journal.Link{link}, next
		out = append(out, b)
	}
	return out
}

func produce(t *testing.T, addr, topic string, all []*journal.Batch) []int64 {
	t.Helper()
	q, err := kafka.New(kafka.Options{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	run := replicator.Run{TopicPartition: replicator.TopicPartition{Topic: topic}}
	for _, b := range all {
		run.Messages = append(run.Messages, replicator.Message{Key: journal.QueueKey(b), Value: journal.Encode(b)})
	}
	base, err := q.Produce(context.Background(), []replicator.Run{run})
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// TestKcatReadsTheQueue: a tool that knows nothing of Homing sees dense
// sequences.
func TestKcatReadsTheQueue(t *testing.T) {
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Fatalf("kcat is needed: %v", err)
	}
	topic := journal.Topic("sh", journal.Full)
	b := start(t, embedded.Options{Dir: t.TempDir(), Topics: []string{topic}})
	produce(t, b.Addr(), topic, batches(3))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, kcat, "-b", b.Addr(), "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%k %p\n")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kcat: %v: %s", err, stderr.String())
	}
	if want := "1-1 0\n2-2 0\n3-3 0\n"; string(out) != want {
		t.Errorf("kcat printed %q, want %q; %s", out, want, stderr.String())
	}
	out, err = exec.CommandContext(ctx, kcat, "-b", b.Addr(), "-L").Output()
	if err != nil || !strings.Contains(string(out), "at "+b.Addr()) {
		t.Errorf("the broker advertises another address than %s: %s %v", b.Addr(), out, err)
	}
}

func TestOldDirectoryAndNewTopics(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Options{Dir: dir, Topics: []string{"a"}})
	produce(t, b.Addr(), "a", batches(2))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, embedded.Options{Dir: dir, Topics: []string{"a", "b"}, Listen: b.Addr()})
	if base := produce(t, b.Addr(), "a", batches(1)); base[0] != 2 {
		t.Errorf("the old log goes on at %d, want 2", base[0])
	}
	if base := produce(t, b.Addr(), "b", batches(1)); base[0] != 0 {
		t.Errorf("the new log begins at %d", base[0])
	}
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	b := start(t, embedded.Options{Dir: dir})
	for name, c := range map[string]struct {
		o    embedded.Options
		want string
	}{
		"a locked directory":   {embedded.Options{Listen: "127.0.0.1:0", Dir: dir, Partitions: 1}, "another process uses it"},
		"a taken port":         {embedded.Options{Listen: b.Addr(), Dir: t.TempDir(), Partitions: 1}, "address already in use"},
		"every address":        {embedded.Options{Listen: "0.0.0.0:0", Dir: t.TempDir(), Partitions: 1}, "clients can connect to"},
		"no host":              {embedded.Options{Listen: ":0", Dir: t.TempDir(), Partitions: 1}, "clients can connect to"},
		"no port":              {embedded.Options{Listen: "127.0.0.1", Dir: t.TempDir(), Partitions: 1}, "missing port"},
		"no directory":         {embedded.Options{Listen: "127.0.0.1:0", Partitions: 1}, "needs a directory"},
		"no partitions":        {embedded.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}, "number of partitions"},
		"a file for directory": {embedded.Options{Listen: "127.0.0.1:0", Dir: dir + "/lock/x", Partitions: 1}, "not a directory"},
	} {
		b, err := embedded.Start(c.o)
		if err == nil {
			_ = b.Close()
			t.Errorf("%s: started", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMalformedRequestsCostOnlyTheirSender: what would end a bare kfake does not
// even reach it.
func TestMalformedRequestsCostOnlyTheirSender(t *testing.T) {
	b := start(t, embedded.Options{Dir: t.TempDir(), Topics: []string{"a"}})
	frame := func(size uint32, key int16, rest string) []byte {
		f := binary.BigEndian.AppendUint32(nil, size)
		return append(binary.BigEndian.AppendUint16(f, uint16(key)), rest...)
	}
	for name, bad := range map[string][]byte{
		"HTTP":           []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a huge length":  frame(1<<31, 3, "\x00\x01\x00\x00\x00\x00"),
		"no length":      frame(0, 3, "\x00\x01\x00\x00\x00\x00"),
		"an unknown key": frame(100, 9999, "\x00\x01\x00\x00\x00\x00"),
		"a negative key": frame(100, -1, "\x00\x01\x00\x00\x00\x00"),
	} {
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(bad); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := io.Copy(io.Discard, c); n > 0 || (err != nil && !strings.Contains(err.Error(), "reset")) {
			t.Errorf("%s: was answered with %d bytes, %v", name, n, err)
		}
		_ = c.Close()
	}
	// Sound frames around rubbish reach the broker, which drops the connection.
	for key := range int16(93) {
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(frame(12, key, "\x00\x7f\x00\x00\x00\x01\xff\xff\xff\xff"))
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	produce(t, b.Addr(), "a", batches(1))
}

func ExampleStart() {
	dir := "/tmp"
	_, err := embedded.Start(embedded.Options{Listen: "0.0.0.0:9092", Dir: dir, Partitions: 8})
	fmt.Println(err)
	// Output: queue listen address "0.0.0.0:9092": want a host that clients can connect to, because the broker advertises it
}
