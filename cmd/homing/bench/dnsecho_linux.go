//go:build amd64 || arm64

package bench

import (
	"context"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// echo sends every packet back: what the system calls cost by themselves.
func echo(ctx context.Context, at string) error {
	address, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	const room = 4 << 20                                              // as the smart DNS asks for
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // else packets are lost while it stands still
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = unix.Shutdown(fd, unix.SHUT_RD) })() // wakes who waits
	p := newPackets(true)
	for ctx.Err() == nil {
		got, errno := p.receive(uintptr(fd))
		if errno == unix.EAGAIN {
			n, _, e := syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.heads[0])), packetBatch, unix.MSG_WAITFORONE, 0, 0)
			got, errno = int(n), e
		}
		if errno != 0 {
			continue
		}
		for i := range got {
			p.vectors[i].SetLen(int(p.heads[i].size))
		}
		_, _ = p.send(uintptr(fd), got)
	}
	return nil
}
