package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// enclosed marks the environment of the program inside.
const enclosed = "HOMING_LAB_ENCLOSED"

// Possible says why namespaces cannot be made here, nil when they can.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces are made by root only")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("no TUN devices here: %w", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("no ip command here (Debian: apt-get install iproute2)")
	}
	// Root of a container may not be allowed to.
	n, tun, err := New(1500, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err != nil {
		return err
	}
	return errors.Join(tun.Close(), n.Close())
}

// Enclose runs this program again, with the same arguments, as the first
// process of namespaces of its own, waits for it, and returns its exit status.
// Inside it returns true at once. Interrupts are passed on.
func Enclose() (inside bool, status int, err error) {
	if os.Getenv(enclosed) != "" {
		return true, 0, prepare()
	}
	// Pdeathsig is sent when the thread that forked ends, so that one must not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), enclosed+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
		Setpgid:    true, // or a terminal's Ctrl-C would reach it twice
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return false, 1, fmt.Errorf("making namespaces: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() >= 0 {
				return false, exit.ExitCode(), nil
			}
			return false, cmd.ProcessState.ExitCode(), err
		}
	}
}

// prepare gives the namespaces a /proc of their own, seen by nobody outside.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return os.Unsetenv(enclosed)
}
