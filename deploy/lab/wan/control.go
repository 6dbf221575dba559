package wan

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// Control takes commands on a Unix socket: a line each, as [Parse] reads them,
// or "show". Each is answered with lines and an empty line; errors begin with
// "error: ".
type Control struct {
	wan      *WAN
	listener net.Listener
	serving  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
	shut bool
}

// Listen opens the socket at path, for this user only.
func (w *WAN) Listen(path string) (*Control, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	c := &Control{wan: w, listener: l, open: map[net.Conn]bool{}}
	c.serving.Go(c.accept)
	return c, nil
}

// Close ends all connections and removes the socket.
func (c *Control) Close() error {
	err := c.listener.Close()
	c.mu.Lock()
	c.shut = true
	for conn := range c.open {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.serving.Wait()
	return err
}

func (c *Control) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.shut {
			_ = conn.Close()
		} else {
			c.open[conn] = true
			c.serving.Go(func() { c.serve(conn) })
		}
		c.mu.Unlock()
	}
}

func (c *Control) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		c.mu.Lock()
		delete(c.open, conn)
		c.mu.Unlock()
	}()
	for sc := bufio.NewScanner(conn); sc.Scan(); {
		if _, err := fmt.Fprintf(conn, "%s\n\n", c.wan.answer(strings.Fields(sc.Text()))); err != nil {
			return
		}
	}
}

func (w *WAN) answer(words []string) string {
	if len(words) == 1 && words[0] == "show" {
		return w.String()
	}
	change, err := Parse(words)
	if err != nil {
		return "error: " + err.Error()
	}
	n, err := w.Apply(change)
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("%d directions changed", n)
}

// String lists every direction with what it does.
func (w *WAN) String() string {
	var b strings.Builder
	all := w.Sites()
	for _, from := range all {
		for _, to := range all {
			if s, ok := w.Shape(from, to); ok {
				_, _ = fmt.Fprintf(&b, "%s > %s %s\n", from, to, s)
			}
		}
	}
	sent, lost := w.Counts()
	_, _ = fmt.Fprintf(&b, "%d packets sent, %d of them lost", sent, lost)
	return b.String()
}

// String is the shape as [Parse] reads it.
func (s Shape) String() string {
	words := []string{"delay=" + s.Delay.String()}
	if s.Jitter > 0 {
		words = append(words, "jitter="+s.Jitter.String())
	}
	if s.Loss > 0 {
		words = append(words, fmt.Sprintf("loss=%g%%", 100*s.Loss))
	}
	if s.Rate > 0 {
		words = append(words, fmt.Sprintf("rate=%dkbit", s.Rate/1000))
	}
	if s.Cut {
		words = append(words, "cut")
	}
	return strings.Join(words, " ")
}

// Ask gives a command to the WAN that listens at path.
func Ask(path, command string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintln(conn, strings.ReplaceAll(command, "\n", " ")); err != nil {
		return "", err
	}
	var lines []string
	for sc := bufio.NewScanner(conn); sc.Scan() && sc.Text() != ""; {
		lines = append(lines, sc.Text())
	}
	answer := strings.Join(lines, "\n")
	if text, failed := strings.CutPrefix(answer, "error: "); failed {
		return "", errors.New(text)
	}
	return answer, nil
}
