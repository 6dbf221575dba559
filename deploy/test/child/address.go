package child

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// Address returns one of loopback, host:port, that is free. Its port is below those
// that the kernel gives to whoever asks for any: one of these is somebody's
// connection by the time a server binds it, or binds it again.
func Address() string {
	for range 1000 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000))))
		if err != nil {
			continue // taken
		}
		_ = l.Close()
		return l.Addr().String()
	}
	panic("child: no port of loopback is free")
}
