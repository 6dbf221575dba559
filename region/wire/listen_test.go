package wire

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestListenersCheck(t *testing.T) {
	for address, want := range map[string]string{
		"": "", "127.0.0.1:1": "", "[::1]:1": "", "192.0.2.1:1": "has no TLS", "0.0.0.0:1": "has no TLS", ":7100": "want IP:port", "localhost:1": "want IP:port",
	} {
		for _, l := range []Listeners{{Long: address}, {Short: address}, {Web: address}} {
			err := l.Check()
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", l, err, want)
			}
		}
	}
	far, secure := "192.0.2.1:1", &tls.Config{MinVersion: tls.VersionTLS13}
	if err := (Listeners{Long: far, Short: far, Web: far, TLS: secure, WebTLS: secure}).Check(); err != nil {
		t.Error(err)
	}
	if err := (Listeners{Long: far, Short: far, TLS: secure}).Check(); err == nil || !strings.Contains(err.Error(), "short listener") {
		t.Errorf("TLS on the long connections alone: %v", err)
	}
}
