//go:build amd64 || arm64

package bench

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetRoom is the bytes of the longest packet.
const packetRoom = 2048

// packets go with one system call, as many as the smart DNS takes.
type packets struct {
	heads   [packetBatch]packetHead
	vectors [packetBatch]unix.Iovec
	names   [packetBatch]unix.RawSockaddrInet4
	data    [packetBatch][packetRoom]byte
}

const packetBatch = 32

// packetHead is struct mmsghdr of recvmmsg(2).
type packetHead struct {
	head unix.Msghdr
	size uint32
	_    [4]byte
}

// newPackets makes room; with peers the addresses of the packets are kept, and
// sent to.
func newPackets(peers bool) *packets {
	p := &packets{}
	for i := range p.heads {
		p.vectors[i].Base = &p.data[i][0]
		p.heads[i].head.Iov = &p.vectors[i]
		p.heads[i].head.SetIovlen(1)
		if peers {
			p.heads[i].head.Name = (*byte)(unsafe.Pointer(&p.names[i]))
		}
	}
	return p
}

// receive takes what is there and does not wait.
func (p *packets) receive(fd uintptr) (int, unix.Errno) {
	for i := range p.heads {
		if p.heads[i].head.Name != nil {
			p.heads[i].head.Namelen = unix.SizeofSockaddrInet4
		}
		p.vectors[i].SetLen(packetRoom)
	}
	return p.call(unix.SYS_RECVMMSG, fd, packetBatch)
}

// received is packet i of what receive took.
func (p *packets) received(i int) []byte { return p.data[i][:p.heads[i].size] }

// put makes packet i ready to be sent.
func (p *packets) put(i int, packet []byte) []byte {
	n := copy(p.data[i][:], packet)
	p.vectors[i].SetLen(n)
	return p.data[i][:n]
}

// send sends the first n as far as there is room, and does not wait.
func (p *packets) send(fd uintptr, n int) (int, unix.Errno) {
	return p.call(unix.SYS_SENDMMSG, fd, n)
}

func (p *packets) call(number, fd uintptr, n int) (int, unix.Errno) {
	got, _, errno := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&p.heads[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), 0
}
