package accesstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

// World is an access.World that tests change.
type World struct {
	mu      sync.Mutex
	view    *region.View
	changed chan struct{}
	hints   []uint64
	refuse  error
}

// NewWorld starts with no world at all.
func NewWorld() *World { return &World{changed: make(chan struct{})} }

// View returns the newest.
func (w *World) View() *region.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// Changed is closed at the next Set.
func (w *World) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Hint records the version.
func (w *World) Hint(version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hints = append(w.hints, version)
}

// Hints returns the versions hinted at.
func (w *World) Hints() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]uint64(nil), w.hints...)
}

// Admitting returns what Refuse set.
func (w *World) Admitting() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refuse
}

// Refuse makes the region not admit, with this error; nil undoes it.
func (w *World) Refuse(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = err
}

// Set makes a view the newest.
func (w *World) Set(v *region.View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view = v
	close(w.changed)
	w.changed = make(chan struct{})
}

// Place is where a region of a test listens.
type Place struct {
	ID        region.ID
	Long      netip.AddrPort
	Short     netip.AddrPort
	Web       netip.AddrPort
	ActedBy   region.ID // itself when empty
	Failovers uint64    // counter of the acting region
}

// View makes a world of regions; the n-th has the UINs from n million to before
// n+1 million.
func View(version uint64, places ...Place) *region.View {
	w := &region.World{Version: version, Name: "test", Zone: "demo.test", Partitions: 8}
	for i, p := range places {
		acting := p.ActedBy
		if acting == "" {
			acting = p.ID
		}
		w.Regions = append(w.Regions, region.Region{
			ID: p.ID, Acting: region.Acting{Region: acting, Counter: p.Failovers, Raised: &region.Hash{1}},
			Serves: region.Endpoints{Long: p.Long, Short: p.Short, Web: p.Web},
		})
		first := region.UIN((i + 1) * 1_000_000)
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999_999, Home: p.ID})
	}
	return region.NewView(w, region.Hash{byte(version)}, nil)
}

// Authority makes a server's configuration for names, and the pool that trusts
// it.
func Authority(names ...string) (*tls.Config, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "accesstest"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}},
	}, pool
}
