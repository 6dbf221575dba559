package netns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace. It lives until it is closed and every
// process in it has ended.
type Namespace struct {
	file *os.File
	lead netip.Addr
}

// device is the name of the TUN device in every namespace.
const device = "wan0"

// New makes a namespace with the given addresses of its own, at least one; what
// is sent from inside comes from the first unless a program binds another. The
// file has the packets to and from all others of 127.0.0.0/8: one IPv4 packet a
// read or write.
func New(mtu int, addresses ...netip.Addr) (*Namespace, *os.File, error) {
	n := &Namespace{lead: addresses[0]}
	if err := thread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	}); err != nil {
		return nil, nil, fmt.Errorf("making a network namespace: %w", err)
	}
	tun, err := n.tun()
	if err == nil {
		if err = n.configure(mtu, addresses); err != nil {
			_ = tun.Close()
		}
	}
	if err != nil {
		_ = n.Close()
		return nil, nil, err
	}
	return n, tun, nil
}

// Close gives the namespace up; processes in it go on.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f on a thread inside the namespace: sockets it makes and processes it
// starts are there. Goroutines that it starts are not.
func (n *Namespace) Do(f func() error) error {
	return thread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return f()
	})
}

// Start starts a command inside the namespace.
func (n *Namespace) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// thread runs f on a thread that ends with it, whatever became of its namespaces.
func thread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		done <- f()
	}()
	return <-done
}

// tun makes the device. Its file is read and written without blocking a thread.
func (n *Namespace) tun() (*os.File, error) {
	fd := -1
	err := n.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("making a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// configure leaves to loopback what is the namespace's own, and sends the rest
// of 127.0.0.0/8 out.
func (n *Namespace) configure(mtu int, addresses []netip.Addr) error {
	batch := &strings.Builder{}
	_, _ = fmt.Fprintf(batch, "link set lo up\naddress del 127.0.0.1/8 dev lo\n")
	for _, a := range addresses {
		_, _ = fmt.Fprintf(batch, "address add %s/32 dev lo\n", a)
	}
	_, _ = fmt.Fprintf(batch, "link set %s mtu %d up\n", device, mtu)
	_, _ = fmt.Fprintf(batch, "route add 127.0.0.0/8 dev %s src %s\n", device, n.lead)
	return n.Do(func() error {
		// /proc/sys/net shows the namespace of the thread that opens it.
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0); err != nil {
			return err
		}
		cmd := exec.Command("ip", "-4", "-batch", "-")
		cmd.Stdin = strings.NewReader(batch.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w: %s", err, out)
		}
		return nil
	})
}
