package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// straceArgs make the trace that readTrace understands. strace stops a thread
// at the entry and at the return of a call and writes the line before it lets
// the thread go on, so what one thread did because another's call had returned
// stands below that return: the order of lines is an order of causes.
//
// -D leaves the traced program the direct child, so that signals reach it; -yy
// prints what a descriptor is, both ends of a connection included.
func straceArgs(out string) []string {
	return []string{"-D", "-f", "--seccomp-bpf", "-ttt", "-T", "-yy", "-s", "16384", "-e", "signal=none",
		"-e", "trace=read,readv,recvfrom,recvmsg,write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync,sync_file_range", "-o", out}
}

// call is a system call in a trace.
type call struct {
	name              string
	on                string // what the descriptor is: a path, or TCP:[here->peer]
	args              string
	result            int64 // -1 for an error
	entered, returned int   // lines; never is a call that has not returned
	began, ended      time.Time
}

const never = math.MaxInt

var (
	traceLine    = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (.*)$`)
	traceEntry   = regexp.MustCompile(`^([a-z0-9_]+)\(\d+<(.*?)>(?:\(deleted\))?[,) ](.*)$`)
	traceResumed = regexp.MustCompile(`^<\.\.\. ([a-z0-9_]+) resumed>(.*)$`)
	traceResult  = regexp.MustCompile(`\) += (-?\d+)[^"]*?(?:<(\d+\.\d+)>)?$`)
)

// readTrace returns the calls in the order of their entries.
func readTrace(r io.Reader) ([]*call, error) {
	var all []*call
	open := map[string]*call{} // by thread
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("line %d is no trace: %.200s", n, lines.Text())
		}
		seconds, micros, _ := strings.Cut(m[2], ".")
		s, err1 := strconv.ParseInt(seconds, 10, 64)
		us, err2 := strconv.ParseInt(micros, 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("line %d: time %q", n, m[2])
		}
		thread, at, text := m[1], time.Unix(s, us*1000), m[3]
		var c *call
		if e := traceResumed.FindStringSubmatch(text); e != nil {
			if c = open[thread]; c == nil {
				continue // it began on a descriptor that strace could not name
			} else if c.name != e[1] {
				return nil, fmt.Errorf("line %d resumes another call than %s: %.200s", n, c.name, text)
			}
			delete(open, thread)
			c.args += e[2]
		} else if e := traceEntry.FindStringSubmatch(text); e != nil {
			c = &call{name: e[1], on: e[2], args: e[3], entered: n, returned: never, began: at}
			all = append(all, c)
			if strings.HasSuffix(text, "<unfinished ...>") {
				open[thread] = c
				continue
			}
		} else {
			continue // an exit, or a call on a descriptor that strace could not name
		}
		e := traceResult.FindStringSubmatch(text)
		if e == nil {
			continue // the process ended inside the call: it never returned
		}
		c.result, _ = strconv.ParseInt(e[1], 10, 64)
		c.returned, c.ended = n, at
		if c.entered == n && e[2] != "" { // the line's time is that of the entry
			took, err := time.ParseDuration(e[2] + "s")
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			c.ended = at.Add(took)
		}
	}
	return all, lines.Err()
}

// exchange is a lone request and its answer, as the client saw them.
type exchange struct {
	client string    // its end of the connection, host:port
	asked  time.Time // before the request was sent
	told   time.Time // after the answer was read
	marker string    // letters and digits in the request that the store has to keep
	wal    func(path string) bool
}

// durable says why a trace does not prove that the exchange was on disk before
// the first byte of an answer was on its way, or nil when it does: between the
// read that brought the request and the next write to its connection, the
// marker was written to a write-ahead log, and after that write a sync of that
// very file began, and returned without error.
func (x exchange) durable(calls []*call) error {
	ours := func(c *call) bool {
		return strings.HasPrefix(c.on, "TCP") && strings.HasSuffix(c.on, "->"+x.client+"]")
	}
	request := find(calls, func(c *call) bool {
		return ours(c) && slices.Contains([]string{"read", "readv", "recvfrom", "recvmsg"}, c.name) &&
			c.result > 0 && !c.ended.Before(x.asked) && !c.ended.After(x.told)
	})
	if request == nil {
		return fmt.Errorf("%s: no request was read from %s between %s and %s", x.marker, x.client, x.asked, x.told)
	}
	written := func(c *call) bool {
		return slices.Contains([]string{"write", "writev", "pwrite64", "sendto", "sendmsg"}, c.name)
	}
	answer := find(calls, func(c *call) bool { return ours(c) && written(c) && c.entered > request.returned })
	if answer == nil || answer.began.After(x.told) {
		return fmt.Errorf("%s: the request of line %d was not answered", x.marker, request.returned)
	}
	var stored *call
	for _, c := range calls {
		if c.entered > request.returned && c.entered < answer.entered && written(c) && x.wal(c.on) && strings.Contains(c.args, x.marker) {
			stored = c // the last one: a batch may take two writes
		}
	}
	if stored == nil {
		return fmt.Errorf("%s: the request of line %d was answered in line %d, and nothing of it written before", x.marker, request.returned, answer.entered)
	}
	if stored.result <= 0 || stored.returned > answer.entered {
		return fmt.Errorf("%s: the write of line %d had not returned when line %d answered", x.marker, stored.entered, answer.entered)
	}
	synced := find(calls, func(c *call) bool {
		return (c.name == "fdatasync" || c.name == "fsync") && c.on == stored.on && c.entered > stored.returned && c.returned < answer.entered && c.result == 0
	})
	if synced == nil {
		var story []string
		for _, c := range calls {
			if c.entered > request.returned && c.entered < answer.entered && x.wal(c.on) {
				story = append(story, fmt.Sprintf("%s %d to %d with the marker: %v", c.name, c.entered, c.returned, strings.Contains(c.args, x.marker)))
			}
		}
		return fmt.Errorf("%s: written to %s in line %d, answered in line %d, and no sync of that file began and ended well between them:\n%s",
			x.marker, stored.on, stored.entered, answer.entered, strings.Join(story, "\n"))
	}
	return nil
}

func find(calls []*call, ok func(*call) bool) *call {
	if i := slices.IndexFunc(calls, ok); i >= 0 {
		return calls[i]
	}
	return nil
}

// The analysis has to refuse every wrong order.
func TestDurableRefusesWrongOrders(t *testing.T) {
	const (
		request = `11 100.000010 read(9<TCP:[127.0.1.1:7100->127.0.0.1:5555]>, "\27\3\3\0", 4096) = 90`
		stored  = `12 100.000020 write(7</state/sh/store/000002.log>, "\0\0alone17\0", 200) = 200`
		sync    = `12 100.000030 fdatasync(7</state/sh/store/000002.log>) = 0`
		begins  = `12 100.000030 fdatasync(7</state/sh/store/000002.log> <unfinished ...>`
		ends    = `12 100.000050 <... fdatasync resumed>) = 0`
		answer  = `11 100.000060 write(9<TCP:[127.0.1.1:7100->127.0.0.1:5555]>, "\27\3\3\0", 80) = 80`
		other   = `13 100.000040 write(10<TCP:[127.0.1.1:7100->127.0.0.1:6666]>, "\27\3\3\0", 80) = 80`
	)
	for _, c := range []struct {
		name  string
		trace []string
		want  string // in the error; empty for none
	}{
		{"in order", []string{request, stored, sync, answer}, ""},
		{"in order, interleaved", []string{request, stored, begins, other, ends, answer}, ""},
		{"fsync is as good", []string{request, stored, strings.Replace(sync, "fdatasync", "fsync", 1), answer}, ""},
		{"the read began before", []string{
			`11 99.000000 read(9<TCP:[127.0.1.1:7100->127.0.0.1:5555]>,  <unfinished ...>`, other,
			`11 100.000010 <... read resumed>"\27\3\3\0", 4096) = 90`, stored, sync, answer,
		}, ""},
		{"the read met the request", []string{
			`11 99.999990 read(9<TCP:[127.0.1.1:7100->127.0.0.1:5555]>, "\27\3\3\0", 4096) = 90 <0.000020>`,
			stored + " <0.000007>", sync + " <0.000010>", answer + " <0.000005>",
		}, ""},
		{"an empty read is no request", []string{
			`11 99.999999 read(9<TCP:[127.0.1.1:7100->127.0.0.1:5555]>, 0xc000, 4096) = -1 EAGAIN (Resource temporarily unavailable)`,
			request, stored, sync, answer,
		}, ""},
		{"answered before the sync", []string{request, stored, answer, sync}, "no sync"},
		{"answered during the sync", []string{request, stored, begins, answer, ends}, "no sync"},
		{"answered, and no sync at all", []string{request, stored, answer}, "no sync"},
		{"the sync was over before the write", []string{request, sync, stored, answer}, "no sync"},
		{"the sync began before the write", []string{request, begins, strings.Replace(stored, "12 ", "14 ", 1), ends, answer}, "no sync"},
		{"the sync never ended", []string{request, stored, begins, answer}, "no sync"},
		{"the sync failed", []string{request, stored, strings.Replace(sync, "= 0", "= -1 EIO (Input/output error)", 1), answer}, "no sync"},
		{"another file was synced", []string{request, stored, strings.Replace(sync, "000002", "000003", 1), answer}, "no sync"},
		{"answered before the write", []string{request, answer, stored, sync}, "nothing of it written"},
		{"written before the request", []string{stored, request, sync, answer}, "nothing of it written"},
		{"written elsewhere", []string{request, strings.Replace(stored, "000002.log", "MANIFEST-000001", 1), sync, answer}, "nothing of it written"},
		{"another message was written", []string{request, strings.Replace(stored, "alone17", "alone16", 1), sync, answer}, "nothing of it written"},
		{"a push overtook", []string{request, strings.Replace(answer, "60 ", "15 ", 1), stored, sync, answer}, "nothing of it written"},
		{"the write failed", []string{request, strings.Replace(stored, "= 200", "= -1 ENOSPC (No space left on device)", 1), sync, answer}, "had not returned"},
		{"never answered", []string{request, stored, sync, other}, "not answered"},
		{"never asked", []string{stored, sync, answer}, "no request"},
		{"asked by somebody else", []string{strings.Replace(request, "5555", "6666", 1), stored, sync, answer}, "no request"},
		{"asked at another time", []string{strings.Replace(request, "100.", "90.", 1), stored, sync, answer}, "no request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls, err := readTrace(strings.NewReader(strings.Join(c.trace, "\n") + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			x := exchange{client: "127.0.0.1:5555", asked: time.Unix(100, 0), told: time.Unix(101, 0), marker: "alone17", wal: isWAL("/state/sh/")}
			switch err := x.durable(calls); {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && err == nil:
				t.Error("accepted")
			case c.want != "" && !strings.Contains(err.Error(), c.want):
				t.Errorf("refused because %q, want %q", err, c.want)
			}
		})
	}
}

func isWAL(dir string) func(string) bool {
	return func(path string) bool { return strings.HasPrefix(path, dir) && strings.HasSuffix(path, ".log") }
}
