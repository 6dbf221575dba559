package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a command in a pseudo-terminal of its own.
type terminal struct {
	t      testing.TB
	ptmx   *os.File // the keyboard and the screen
	tty    *os.File // the side that the command has; kept open to look at it after the end
	screen *lines
	before *unix.Termios

	cmd  *exec.Cmd
	read chan struct{} // closed when the screen went dark
	done chan error
}

// openTerminal starts homing in a terminal.
func openTerminal(t testing.TB, w *world, args ...string) *terminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ptmx.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &terminal{t: t, ptmx: ptmx, tty: tty, screen: new(lines), read: make(chan struct{}), done: make(chan error, 1)}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200}); err != nil {
		t.Fatal(err)
	}
	c.before = c.state()
	c.cmd = exec.Command(filepath.Join(bin, "homing"), args...)
	c.cmd.Env = append(w.env(), "TERM=xterm")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.read)
		b := make([]byte, 4096)
		for {
			n, err := ptmx.Read(b)
			_, _ = c.screen.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() { c.done <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = tty.Close()
		_ = ptmx.Close()
		<-c.read
		if t.Failed() {
			t.Logf("the terminal of homing %v:\n%s", args, c.screen)
		}
	})
	return c
}

// state returns the settings of the terminal.
func (c *terminal) state() *unix.Termios {
	c.t.Helper()
	s, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *terminal) types(keys string) {
	c.t.Helper()
	if _, err := c.ptmx.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for the command's end and returns its error; the terminal has to
// be as it was.
func (c *terminal) ends() error {
	c.t.Helper()
	select {
	case err := <-c.done:
		if after := c.state(); *after != *c.before {
			c.t.Errorf("the terminal was left as %+v, and was %+v", after, c.before)
		}
		return err
	case <-time.After(time.Minute):
		c.t.Fatal("does not end")
		return nil
	}
}
