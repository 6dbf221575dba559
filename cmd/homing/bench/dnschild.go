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
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a server under measurement.
type child struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{}
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

// pin keeps the server on one processor; -1 leaves it all.
func (c *child) pin(processor int) {
	if processor < 0 {
		return
	}
	_ = exec.Command("taskset", "-acp", strconv.Itoa(processor), strconv.Itoa(c.cmd.Process.Pid)).Run() // where there is none, it runs unpinned
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

func freePort() (netip.AddrPort, error) {
	for range 16 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return netip.AddrPort{}, err
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return at, nil
		}
	}
	return netip.AddrPort{}, errors.New("no port is free for both UDP and TCP")
}
