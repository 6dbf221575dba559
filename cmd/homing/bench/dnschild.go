package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a server under measurement.
type child struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{}
}

// output is what a child said so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &c.out, &c.out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { defer close(c.done); _ = cmd.Wait() }()
	return c, nil
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(3 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// said is the last line of the ended child's output.
func (c *child) said() string {
	select {
	case <-c.done:
	default:
		return "it runs, and says nothing"
	}
	lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
	return lines[len(lines)-1]
}

// answers waits for the first answer.
func (c *child) answers(ctx context.Context, at netip.AddrPort, ask []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-c.done:
			return errors.New("it ended: " + c.said())
		default:
		}
		if answersOnce(at, ask) {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("it does not answer")
}

func answersOnce(at netip.AddrPort, ask []byte) bool {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(ask); err != nil {
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := conn.Read(make([]byte, 1500))
	return err == nil && n >= len(ask) // an answer has at least the question
}

// pin keeps the server on processors; where that cannot be, it runs unpinned.
func (c *child) pin(first, last int) { pin(c.cmd.Process.Pid, first, last) }

func pin(pid, first, last int) {
	_ = exec.Command("taskset", "-acp", fmt.Sprintf("%d-%d", first, last), strconv.Itoa(pid)).Run()
}

// prefer puts the server before its neighbours on its processor, where that may be
// had: their time slices are not its delay. A nice value would not do it, which counts
// within a session only (autogroup). Its own threads do not make way for each other.
func (c *child) prefer() {
	_ = exec.Command("chrt", "-a", "-f", "-p", "1", strconv.Itoa(c.cmd.Process.Pid)).Run()
}

// pinGenerator leaves the first processor to the servers until the release.
func pinGenerator() (release func()) {
	last := runtime.NumCPU() - 1
	if last == 0 {
		return func() {}
	}
	pin(os.Getpid(), 1, last)
	return func() { pin(os.Getpid(), 0, last) }
}

// collection is a line of GODEBUG=gctrace=1; the world stands still for the first
// and the last of the times.
var collection = regexp.MustCompile(`(?m)^gc \d+ @.*: ([\d.]+)\+[\d.]+\+([\d.]+) ms clock`)

// collected is how often the child has collected garbage, and stood still for it,
// as far as its output tells.
func (c *child) collected() (n int, paused time.Duration) {
	for _, m := range collection.FindAllStringSubmatch(c.out.String(), -1) {
		n++
		for _, text := range m[1:] {
			ms, _ := strconv.ParseFloat(text, 64)
			paused += time.Duration(ms * float64(time.Millisecond))
		}
	}
	return n, paused
}

// ticks of the clock in /proc are 1/100 s on every Linux.
const cpuTick = 10 * time.Millisecond

// cpu is the processor time that the process has used.
func (c *child) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third field on
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is not as known")
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * cpuTick, errors.Join(err, err2)
}

// rss is the process's resident memory in bytes; 0 when unknown.
func (c *child) rss() uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(f[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
