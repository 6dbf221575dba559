//go:build amd64 || arm64

package bench

import (
	"context"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// echoBatch packets go with each system call, as many as the smart DNS takes.
const echoBatch = 32

type echoHeader struct {
	head unix.Msghdr
	size uint32
	_    [4]byte
}

// echo sends every packet back: what the system calls cost by themselves.
func echo(ctx context.Context, at string) error {
	packets, err := net.ListenPacket("udp4", at)
	if err != nil {
		return err
	}
	conn := packets.(*net.UDPConn)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var (
		heads   [echoBatch]echoHeader
		vectors [echoBatch]unix.Iovec
		names   [echoBatch]unix.RawSockaddrInet4
		data    [echoBatch][2048]byte
	)
	for i := range heads {
		vectors[i].Base = &data[i][0]
		heads[i].head.Iov = &vectors[i]
		heads[i].head.SetIovlen(1)
		heads[i].head.Name = (*byte)(unsafe.Pointer(&names[i]))
	}
	call := func(number, fd uintptr, n int) (int, unix.Errno) {
		got, _, errno := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&heads[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		return int(got), errno
	}
	for {
		got := 0
		for i := range heads {
			heads[i].head.Namelen = unix.SizeofSockaddrInet4
			vectors[i].SetLen(len(data[i]))
		}
		if err := raw.Read(func(fd uintptr) bool {
			n, errno := call(unix.SYS_RECVMMSG, fd, echoBatch)
			got = n
			if errno != 0 {
				got = 0
			}
			return errno != unix.EAGAIN
		}); err != nil {
			return nil // closed
		}
		for i := range got {
			vectors[i].SetLen(int(heads[i].size))
		}
		if got == 0 {
			continue
		}
		if err := raw.Write(func(fd uintptr) bool {
			_, errno := call(unix.SYS_SENDMMSG, fd, got)
			return errno != unix.EAGAIN
		}); err != nil {
			return nil
		}
	}
}
