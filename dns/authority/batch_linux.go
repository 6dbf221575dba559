//go:build linux && (amd64 || arm64)

package authority

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One socket per worker, among which the kernel spreads the clients by their
// addresses and ports, and many packets per system call: with one answer taking
// a tenth of a microsecond, system calls and wake-ups are what a query costs.

// listenUDP binds n sockets to one address. That the TCP port of that number is
// ours keeps others from joining by mistake.
func listenUDP(at netip.AddrPort, n int) ([]*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		if err := raw.Control(func(fd uintptr) {
			if n > 1 {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		}); err != nil {
			return err
		}
		return failed
	}}
	var out []*net.UDPConn
	for range n {
		conn, err := config.ListenPacket(context.Background(), "udp", at.String())
		if err != nil {
			for _, c := range out {
				_ = c.Close()
			}
			return nil, err
		}
		out = append(out, conn.(*net.UDPConn))
	}
	return out, nil
}

// batchSize is the number of packets per system call. More would make the first
// one wait for the last one's answer and save nothing any more.
const batchSize = 32

// Rooms for packets begin at different sets of a cache, not all at the same one.
const (
	inRoom  = udpRead + 64
	outRoom = maxUDP + 48
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is the memory that system calls read from and write to. It stays where
// it is: the kernel gets its addresses.
type batch struct {
	in, out       [batchSize]mmsghdr
	inVec, outVec [batchSize]unix.Iovec
	names         [batchSize]unix.RawSockaddrInet6 // room for either family
	control       [batchSize][controlLen]byte
	inData        [batchSize][inRoom]byte
	outData       [batchSize][outRoom]byte
	wildcard      bool
}

func newBatch(wildcard bool) *batch {
	b := &batch{wildcard: wildcard}
	for i := range batchSize {
		b.inVec[i].Base = &b.inData[i][0]
		b.inVec[i].SetLen(udpRead)
		b.in[i].hdr.Iov = &b.inVec[i]
		b.in[i].hdr.SetIovlen(1)
		b.in[i].hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.out[i].hdr.Iov = &b.outVec[i]
		b.out[i].hdr.SetIovlen(1)
	}
	return b
}

// arm makes the first n places ready to receive.
func (b *batch) arm(n int) {
	for i := range n {
		h := &b.in[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		if b.wildcard {
			h.Control = &b.control[i][0]
			h.SetControllen(controlLen)
		}
	}
}

// startUDP starts the only worker on a socket.
func (s *Server) startUDP(conn *net.UDPConn) {
	wildcard := isWildcard(conn)
	fd, err := detach(conn)
	if err != nil {
		s.log.Error("UDP socket is unusable", "addr", conn.LocalAddr(), "err", err)
		return
	}
	s.detached = append(s.detached, fd)
	s.running.Go(func() { s.work(uintptr(fd), newBatch(wildcard)) })
}

// detach takes a socket from the runtime's poller, and closes the connection. The
// poller is woken for every packet that comes and for every one that has gone,
// which costs more than to answer it. The caller closes the descriptor, which is
// in blocking mode.
func detach(conn *net.UDPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, false)
		}
	})
	return fd, errors.Join(failed, err, conn.Close())
}

// wakeUDP lets workers that wait see that the server is closed.
func (s *Server) wakeUDP() {
	for _, fd := range s.detached {
		_ = unix.Shutdown(fd, unix.SHUT_RD) // says that the socket is not connected, and wakes who waits all the same
	}
}

// closeUDP closes what the workers had, after their end.
func (s *Server) closeUDP() {
	for _, fd := range s.detached {
		_ = unix.Close(fd)
	}
}

// work answers packets until the server is closed.
func (s *Server) work(fd uintptr, b *batch) {
	m := newMemory(s)
	b.arm(batchSize)
	for {
		got, failed := receive(fd, b.in[:])
		if failed != 0 {
			if failed != unix.EINTR {
				s.metrics.socketErrors.Inc() // such as an ICMP error of an earlier answer
			}
			continue
		}
		if b.in[0].len == 0 { // nothing comes any more, or a packet without content did
			select {
			case <-s.stop:
				return
			default:
			}
		}
		m.begin()
		n := 0
		for i := range got {
			if b.answer(m, i, n) {
				n++
			}
		}
		m.end()
		b.arm(got)
		s.send(fd, b.out[:n])
	}
}

// answer answers packet i into place n, and says whether there is an answer.
func (b *batch) answer(m *memory, i, n int) bool {
	packet := b.inData[i][:b.in[i].len]
	peer := peerOf(&b.names[i])
	room := b.outData[n][:0]
	out := m.serve(room, packet, peer)
	if len(out) == 0 {
		return false
	}
	b.outVec[n].Base = &out[0]
	b.outVec[n].SetLen(len(out))
	from, to := &b.in[i].hdr, &b.out[n].hdr
	to.Name, to.Namelen = from.Name, from.Namelen
	if b.wildcard {
		back := sourceFor(b.control[i][:from.Controllen])
		to.Control = nil
		to.SetControllen(len(back))
		if len(back) > 0 {
			to.Control = &back[0]
		}
	}
	return true
}

// peerOf is the address a packet came from, as the kernel wrote it.
func peerOf(name *unix.RawSockaddrInet6) netip.Addr {
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr).Unmap() // the zone is no part of where a client is
}

// send sends all answers. One that cannot be sent is counted and passed over.
func (s *Server) send(fd uintptr, out []mmsghdr) {
	for len(out) > 0 {
		sent, failed := mmsg(unix.SYS_SENDMMSG, fd, out)
		if failed == unix.EAGAIN { // no room
			sent, failed = mmsgWait(unix.SYS_SENDMMSG, fd, out, 0)
		}
		if failed != 0 {
			if failed == unix.EINTR {
				continue
			}
			s.metrics.socketErrors.Inc()
			sent = 1
		}
		out = out[sent:]
	}
}

// receive takes what is there, and waits for the first packet.
func receive(fd uintptr, in []mmsghdr) (int, syscall.Errno) {
	n, failed := mmsg(unix.SYS_RECVMMSG, fd, in)
	if failed == unix.EAGAIN {
		return mmsgWait(unix.SYS_RECVMMSG, fd, in, unix.MSG_WAITFORONE)
	}
	return n, failed
}

// mmsg calls recvmmsg or sendmmsg without waiting. It does not tell the
// scheduler, because a batch takes it up to a tenth of a millisecond: told, the
// runtime would take the processor away in the middle of nearly every call and
// wake a thread to use it, which costs two microseconds per query (measured).
func mmsg(call, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return count(n, errno)
}

// mmsgWait is the same for when there is nothing to do but wait, in the kernel
// and not by the runtime's poller: that would cost two more system calls and a
// round of the scheduler for each time, and when it looked at last, with other
// goroutines running, the packets could have waited for ten milliseconds.
func mmsgWait(call, fd uintptr, msgs []mmsghdr, flags uintptr) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(call, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), flags, 0, 0)
	return count(n, errno)
}

func count(n uintptr, errno syscall.Errno) (int, syscall.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
