package wire

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

func TestCheckListener(t *testing.T) {
	for address, want := range map[string]string{
		"": "", "127.0.0.1:1": "", "[::1]:1": "", "192.0.2.1:1": "has no TLS", "0.0.0.0:1": "has no TLS", ":7100": "want IP:port", "localhost:1": "want IP:port",
	} {
		err := CheckListener(region.Long, address, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	if err := CheckListener(region.Long, "192.0.2.1:1", &tls.Config{MinVersion: tls.VersionTLS13}); err != nil {
		t.Error(err)
	}
}
