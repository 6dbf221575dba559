// Package profile keeps a client's identity on disk for the command line: who
// it is, its device key, its ticket, and the snapshot of its last sync. One
// file per profile, mode 0600, replaced by rename.
package profile

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/region"
)

// Profile is one user on one device.
type Profile struct {
	Nickname      string     `json:"nickname"`
	UIN           region.UIN `json:"uin"`
	Region        string     `json:"region"` // where it registered
	Handle        string     `json:"handle,omitempty"`
	DeviceSeed    []byte     `json:"device_seed"` // ed25519 seed, 32 bytes
	Ticket        string     `json:"ticket"`
	TicketExpires int64      `json:"ticket_expires_unix"`
	Snapshot      []byte     `json:"snapshot,omitempty"` // opaque, of the last sync

	path string
}

// DeviceKey returns the device's private key.
func (p *Profile) DeviceKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(p.DeviceSeed) }

// Dir is where the client keeps what else it must remember for this user.
func (p *Profile) Dir() string { return strings.TrimSuffix(p.path, ".json") }

var nameOK = regexp.MustCompile(`^[\p{L}\p{N}_.-]{1,64}$`)

func file(dir, name string) (string, error) {
	if !nameOK.MatchString(name) {
		return "", fmt.Errorf("profile name %q: want 1 to 64 letters, digits, '_', '.' or '-'", name)
	}
	return filepath.Join(dir, "profiles", strings.ToLower(name)+".json"), nil
}

// New makes an empty profile that Save will put into dir. It fails when one of that
// name is there: two users of one nickname need two profile names.
func New(dir, name string) (*Profile, error) {
	path, err := file(dir, name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("there is a profile %s already; say another name with --as", name)
	}
	return &Profile{path: path}, nil
}

// Load reads the profile of that name, in any case of letters.
func Load(dir, name string) (*Profile, error) {
	if name == "" {
		return nil, errors.New("say who you are with --as NAME")
	}
	path, err := file(dir, name)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		have := names(dir)
		if len(have) == 0 {
			return nil, fmt.Errorf("there is no profile %s; make one with: homing user register --region sh --nickname %s", name, name)
		}
		return nil, fmt.Errorf("there is no profile %s; there are: %s", name, strings.Join(have, ", "))
	}
	if err != nil {
		return nil, err
	}
	p := &Profile{path: path}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; remove it and register again", path, err)
	}
	if len(p.DeviceSeed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is damaged: the device seed has %d bytes, want %d", path, len(p.DeviceSeed), ed25519.SeedSize)
	}
	return p, nil
}

// Save writes the profile.
func (p *Profile) Save() error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := endpoints.WriteFile(p.path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("%s stays as it was: %w; make room on the disk, or see whose the directory is", p.path, err)
	}
	return nil
}

func names(dir string) []string {
	es, _ := os.ReadDir(filepath.Join(dir, "profiles"))
	var out []string
	for _, e := range es {
		if n, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out
}
