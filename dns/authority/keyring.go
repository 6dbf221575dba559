package authority

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

// KeyRing is a folder with the keys of a zone, and how far their rollover is.
// Its steps are those of RFC 6781 section 4.1.3 for a key that signs the keys and
// all else: [KeyRing.Start] publishes a new key beside the old, [KeyRing.Switch]
// lets it sign, [KeyRing.Finish] takes the old one away. Each step is refused
// until caches and the parent zone have followed the one before, so that the zone
// validates for everybody at every moment. The folder goes to all DNS nodes after
// each step.
//
// In the folder, keys.json has the zone and the keys; each key is a PEM file
// (SEC 1). Both are for the owner alone.
type KeyRing struct {
	Zone string    `json:"zone"` // without a trailing dot
	Keys []ZoneKey `json:"keys"`

	dir string
}

// ZoneKey is one key of a zone.
type ZoneKey struct {
	Tag   uint16    `json:"tag"` // as DNSKEY and DS records have it
	File  string    `json:"file"`
	State KeyState  `json:"state"`
	Since time.Time `json:"since"` // the state

	key *ecdsa.PrivateKey
}

// KeyState is what a key is for.
type KeyState string

// The states of a key.
const (
	KeyNew    KeyState = "new"    // published, and the parent asked for it
	KeyActive KeyState = "active" // signs
	KeyOld    KeyState = "old"    // published for who still has its signatures
)

const (
	keyRingFile = "keys.json"
	// keyLead is how long a key is published before it signs: who has the keys
	// without it forgets them within keyTTL, and secondaries have new ones when the
	// serial has moved with the hour.
	keyLead = keyTTL*time.Second + signEvery
	// KeyLinger is how long a key is published after it signed: as long as a
	// signature, a record or a DS of it may be kept.
	KeyLinger = signFor
)

// NewKeyRing makes a folder with a first key, which is active at once.
func NewKeyRing(dir, zone string, now time.Time) (*KeyRing, error) {
	if _, ok := dns.IsDomainName(zone); !ok || zone == "" {
		return nil, region.Errorf(region.BadInput, "%q is no zone", shorten(zone)).WithHint("say its name, such as demo.test")
	}
	if _, err := os.Stat(filepath.Join(dir, keyRingFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, region.Errorf(region.Conflict, "%s has keys already", dir).WithHint("roll them: homing dns key start --dir %s", dir)
	}
	r := &KeyRing{Zone: dns.CanonicalName(zone)[:len(dns.Fqdn(zone))-1], dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	if err := r.add(KeyActive, now); err != nil {
		return nil, err
	}
	return r, r.save()
}

// LoadKeyRing reads a folder. Errors are of kind region.BadInput.
func LoadKeyRing(dir string) (*KeyRing, error) {
	b, err := os.ReadFile(filepath.Join(dir, keyRingFile))
	if err != nil {
		return nil, unusable(dir, err)
	}
	r := &KeyRing{dir: dir}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, unusable(dir, err)
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if filepath.Base(k.File) != k.File {
			return nil, unusable(dir, errors.New("the file of a key is not in the folder"))
		}
		b, err := os.ReadFile(filepath.Join(dir, k.File))
		if err != nil {
			return nil, unusable(dir, err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, unusable(dir, errors.New(k.File+" is no PEM file"))
		}
		if k.key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			return nil, unusable(dir, err)
		}
		record, err := DNSKEY(r.Zone, &k.key.PublicKey)
		if err != nil || record.KeyTag() != k.Tag {
			return nil, unusable(dir, errors.New(k.File+" is another key than "+strconv.Itoa(int(k.Tag))))
		}
	}
	if n := len(r.of(KeyActive)); n != 1 {
		return nil, unusable(dir, errors.New(strconv.Itoa(n)+" keys are active, want one"))
	}
	return r, nil
}

func unusable(dir string, err error) error {
	return region.Errorf(region.BadInput, "the keys in %s are unusable", dir).WithCause(err).
		WithHint("restore the folder, or make one with: homing dns key init")
}

func (r *KeyRing) of(states ...KeyState) (out []*ecdsa.PrivateKey) {
	for _, s := range states {
		for _, k := range r.Keys {
			if k.State == s {
				out = append(out, k.key)
			}
		}
	}
	return out
}

// Serving are the keys as [Server.SetKeys] takes them.
func (r *KeyRing) Serving() (keys, retiring []*ecdsa.PrivateKey) {
	return r.of(KeyActive, KeyNew), r.of(KeyOld)
}

// DS are the records that the parent zone is to have, in presentation form.
func (r *KeyRing) DS() ([]string, error) {
	var out []string
	for _, key := range r.of(KeyActive, KeyNew) {
		ds, err := DS(r.Zone, &key.PublicKey)
		if err != nil {
			return nil, err
		}
		out = append(out, ds)
	}
	return out, nil
}

// Start publishes a new key.
func (r *KeyRing) Start(now time.Time) error {
	for _, k := range r.Keys {
		if k.State != KeyActive {
			return region.Errorf(region.Conflict, "a rollover is under way: key %d is %s", k.Tag, k.State).WithHint("homing dns key switch, or finish, goes on with it")
		}
	}
	if err := r.add(KeyNew, now); err != nil {
		return err
	}
	return r.save()
}

// Switch lets the new key sign. ds are the tags that the parent has; force does
// not wait for anything, and breaks the zone for who still has the old keys.
func (r *KeyRing) Switch(now time.Time, ds []uint16, force bool) error {
	i := r.index(KeyNew)
	if i < 0 {
		return region.Errorf(region.Conflict, "there is no new key").WithHint("begin with: homing dns key start")
	}
	k := &r.Keys[i]
	if !force {
		if err := waited(now, k, keyLead); err != nil {
			return err
		}
		if !slices.Contains(ds, k.Tag) {
			return region.Errorf(region.Unavailable, "the parent of %s has no DS of the new key %d yet", r.Zone, k.Tag).
				WithHint("wait until it has followed the CDS record, or give it what homing dns key list shows")
		}
	}
	active := r.index(KeyActive)
	r.Keys[active].State, r.Keys[active].Since = KeyOld, now.UTC()
	k.State, k.Since = KeyActive, now.UTC()
	return r.save()
}

// Finish takes the old key away, likewise.
func (r *KeyRing) Finish(now time.Time, ds []uint16, force bool) error {
	i := r.index(KeyOld)
	if i < 0 {
		return region.Errorf(region.Conflict, "there is no old key").WithHint("homing dns key list shows how far the rollover is")
	}
	k := r.Keys[i]
	if !force {
		if err := waited(now, &k, KeyLinger); err != nil {
			return err
		}
		if active := r.Keys[r.index(KeyActive)].Tag; !slices.Contains(ds, active) || slices.Contains(ds, k.Tag) {
			return region.Errorf(region.Unavailable, "the parent of %s has DS records of the keys %v, want %d alone", r.Zone, ds, active).
				WithHint("wait until it has followed the CDS record, or change it by hand")
		}
	}
	r.Keys = slices.Delete(r.Keys, i, i+1)
	if err := r.save(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(r.dir, k.File)); err != nil {
		return unusable(r.dir, err)
	}
	return nil
}

func waited(now time.Time, k *ZoneKey, wait time.Duration) error {
	if left := wait - now.Sub(k.Since); left > 0 {
		return region.Errorf(region.Unavailable, "key %d is %s since %s", k.Tag, k.State, k.Since.Format(time.RFC3339)).
			WithHint("wait another %s: caches still have what was before", left.Round(time.Second))
	}
	return nil
}

func (r *KeyRing) index(s KeyState) int {
	return slices.IndexFunc(r.Keys, func(k ZoneKey) bool { return k.State == s })
}

// add makes a key, with a tag that no other has.
func (r *KeyRing) add(state KeyState, now time.Time) error {
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		record, err := DNSKEY(r.Zone, &key.PublicKey)
		if err != nil {
			return err
		}
		tag := record.KeyTag()
		if slices.ContainsFunc(r.Keys, func(k ZoneKey) bool { return k.Tag == tag }) {
			continue
		}
		raw, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return err
		}
		k := ZoneKey{Tag: tag, File: strconv.Itoa(int(tag)) + ".pem", State: state, Since: now.UTC().Truncate(time.Second), key: key}
		if err := os.WriteFile(filepath.Join(r.dir, k.File), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
			return unusable(r.dir, err)
		}
		r.Keys = append(r.Keys, k)
		return nil
	}
}

// save replaces keys.json as a whole.
func (r *KeyRing) save() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, keyRingFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return unusable(r.dir, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return unusable(r.dir, err)
	}
	return nil
}

// ParentDS asks a resolver (host:port) which keys of a zone its parent has DS
// records of, by their tags.
func ParentDS(ctx context.Context, resolver, zone string) ([]uint16, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(zone), dns.TypeDS)
	m.SetEdns0(maxUDP, true)
	answer, _, err := new(dns.Client).ExchangeContext(ctx, m, resolver)
	if err == nil && answer.Truncated {
		answer, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, m, resolver)
	}
	if err == nil && answer.Rcode != dns.RcodeSuccess {
		err = errors.New(rcodeName(answer.Rcode))
	}
	if err != nil {
		return nil, region.Errorf(region.Unavailable, "%s does not say which DS records the parent of %s has", resolver, zone).WithCause(err).
			WithHint("name a resolver with --resolver, such as 9.9.9.9:53")
	}
	var out []uint16
	for _, rr := range answer.Answer {
		if ds, ok := rr.(*dns.DS); ok {
			out = append(out, ds.KeyTag)
		}
	}
	return out, nil
}
