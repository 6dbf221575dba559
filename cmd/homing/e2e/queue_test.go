package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// queued is one message of a topic, as kcat prints it.
type queued struct {
	partition, offset, key string
	value                  []byte
}

// kcatFormat frames messages so that any bytes survive: a line of text, the
// value's length as four bytes, and the value.
const kcatFormat = `%p\t%o\t%k\n%R%s`

// demoPartitions is the demo's number of partitions.
const demoPartitions = "8"

// kcat reads a topic from its beginning to its end.
func kcat(t *testing.T, queue, topic string) []queued {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "kcat", "-b", queue, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", kcatFormat)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("kcat %s: %v\n%s", topic, err, &complaints)
		return nil
	}
	var all []queued
	for len(out) > 0 {
		head, rest, ok := bytes.Cut(out, []byte("\n"))
		fields := strings.Split(string(head), "\t")
		if !ok || len(fields) != 3 || len(rest) < 4 {
			t.Errorf("kcat %s printed %q", topic, head)
			return nil
		}
		n := binary.BigEndian.Uint32(rest)
		all = append(all, queued{fields[0], fields[1], fields[2], rest[4 : 4+n]})
		out = rest[4+n:]
	}
	return all
}

// journalPy gives messages to testdata/journal.py, which checks them by the
// package comment of region/journal.
func journalPy(t *testing.T, topic string, messages []queued) (map[string]int, error) {
	t.Helper()
	var in, out, complaints bytes.Buffer
	for _, m := range messages {
		fmt.Fprintf(&in, "%s\t%s\t%s\n", m.partition, m.offset, m.key)
		in.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m.value))))
		in.Write(m.value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "testdata/journal.py", topic, demoPartitions)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, &complaints)
	}
	var found struct{ Count map[string]int }
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatalf("journal.py printed %q: %v", &out, err)
	}
	return found.Count, nil
}

// dense says where the keys of a topic's messages leave a gap, nil if nowhere.
// What is repeated, as a whole, is no gap; with gaps, ascending is enough.
func dense(messages []queued, gaps bool) error {
	last := map[string]uint64{}
	for _, m := range messages {
		var first, end uint64
		if _, err := fmt.Sscanf(m.key, "%d-%d", &first, &end); err != nil || first == 0 || end < first {
			return fmt.Errorf("partition %s offset %s has key %q, want <first>-<last>", m.partition, m.offset, m.key)
		}
		switch l := last[m.partition]; {
		case end <= l: // again
		case first == l+1 || gaps && first > l:
			last[m.partition] = end
		default:
			return fmt.Errorf("partition %s offset %s has key %s after %d", m.partition, m.offset, m.key, l)
		}
	}
	return nil
}

// talk makes traffic between all regions, rows of every class and commands to
// everybody, and waits until the last of it has arrived.
func talk(t *testing.T, w *world) {
	t.Helper()
	people := map[string]uint64{}
	for _, at := range []string{"sh", "hk", "ca"} {
		people[at] = register(t, w, at, "In-"+at)
		w.must("homing id claim in." + at + " --as In-" + at)
	}
	for from := range people {
		for _, to := range people {
			for i := range 3 {
				w.must(fmt.Sprintf(`homing send --as In-%s --to %d "message %d to %d"`, from, to, i, to))
			}
		}
	}
	for at, uin := range people {
		var inbox string
		until(t, time.Minute, "everything has arrived in "+at, func() bool {
			inbox += w.must("homing sync --as In-" + at)
			return strings.Count(inbox, fmt.Sprintf("to %d\n", uin)) == 9
		})
	}
}

// Another Kafka client sees sequences without gaps in every partition, and a
// decoder written from the package comment of region/journal alone finds the
// fields, follows the links, and computes the same chains and digests.
func TestQueueReadByOthers(t *testing.T) {
	need(t, "kcat")
	need(t, "python3")
	w := startDemo(t)
	talk(t, w)
	var full []queued
	for origin, r := range w.endpoints().Regions {
		streams := []string{"full", "shared"}
		for to := range w.endpoints().Regions {
			if to != origin { // a region takes its own commands from its own journal
				streams = append(streams, "to-"+to)
			}
		}
		read := make([][]queued, len(streams))
		var reading sync.WaitGroup
		for i, stream := range streams { // at once: each waits long for the end of its topic
			reading.Go(func() { read[i] = kcat(t, r.Queue, "homing."+origin+"."+stream) })
		}
		reading.Wait()
		for i, stream := range streams {
			topic := "homing." + origin + "." + stream
			messages := read[i]
			if topic == "homing.sh.full" {
				full = messages
			}
			if err := dense(messages, stream != "full"); err != nil {
				t.Errorf("%s: %v", topic, err)
			}
			count, err := journalPy(t, topic, messages)
			if err != nil {
				t.Errorf("%s: %v", topic, err)
				continue
			}
			t.Logf("%s: %v", topic, count)
			// The checks are worth what they were applied to.
			least := map[string]int{"kind 2": 3}
			switch stream {
			case "full":
				least = map[string]int{"kind 1": 30, "kind 2": 6, "kind 3": 1, "kind 4": 1, "watermarks compared": 1}
			case "shared":
				least = map[string]int{"kind 1": 2, "kind 3": 1, "watermarks compared": 1}
			}
			for what, n := range least {
				if count[what] < n {
					t.Errorf("%s has %d of %s, want at least %d", topic, count[what], what, n)
				}
			}
		}
	}
	refuses(t, full)
}

// The checks must notice what a queue may do to a stream: they are given the
// real one, spoilt.
func refuses(t *testing.T, full []queued) {
	t.Helper()
	// The partition with most messages, so that there is a middle.
	by := map[string][]queued{}
	var p []queued
	for _, m := range full {
		by[m.partition] = append(by[m.partition], m)
		if len(by[m.partition]) > len(p) {
			p = by[m.partition]
		}
	}
	if len(p) < 5 {
		t.Fatalf("only %d messages in the longest partition", len(p))
	}
	flipped := p[2]
	flipped.value = bytes.Clone(flipped.value)
	flipped.value[len(flipped.value)-1] ^= 1
	longer := p[2]
	longer.value = append(bytes.Clone(longer.value), 0)
	for _, c := range []struct {
		name     string
		messages []queued
		keys     string // in the refusal by keys alone; empty when keys cannot tell
		bytes    string // in the refusal by journal.py; empty when it has to accept
	}{
		{"whole", p, "", ""},
		{"repeated", concat(p[:3], p[1:3], p[3:]), "", ""},
		{"one lost", concat(p[:2], p[3:]), "after", "follows"},
		{"the first lost", p[1:], "after", "follows"},
		{"two swapped", concat(p[:2], p[3:4], p[2:3], p[4:]), "after", "follows"},
		{"a bit flipped", concat(p[:2], []queued{flipped}, p[3:]), "", "has chain"},
		{"repeated with other bytes", concat(p[:3], []queued{flipped}, p[3:]), "", "other bytes"},
		{"a byte too many", concat(p[:2], []queued{longer}, p[3:]), "", "bytes after the last record"},
	} {
		if err := dense(c.messages, false); !says(err, c.keys) {
			t.Errorf("%s, by keys: %v, want %q", c.name, err, c.keys)
		}
		if _, err := journalPy(t, "homing.sh.full", c.messages); !says(err, c.bytes) {
			t.Errorf("%s, by bytes: %v, want %q", c.name, err, c.bytes)
		}
	}
}

// says: err is nil exactly when nothing is wanted, and says what is wanted.
func says(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}

func concat(parts ...[]queued) []queued {
	var out []queued
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
