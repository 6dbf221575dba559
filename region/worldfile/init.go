package worldfile

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/homing-im/homing/region"
)

// Names in the operator's directory.
const (
	FileName   = "world.yaml"
	LedgerName = "ledger.jsonl"
	KeysName   = "keys"
	// GenesisName is the first world as nodes read it: an envelope in JSON.
	GenesisName = "genesis.json"
)

// Options say what [Init] makes. The world comes from Source, or World, or is
// made of Name, Zone and Regions, in this order.
type Options struct {
	Dir string

	Source []byte        // a world file, kept as it is
	World  *region.World // keys missing in it are made; written as [Show] shows it

	Name       string      // such as "demo"
	Zone       string      // such as "demo.test"
	Regions    []region.ID // each backed by all the others, a million UINs each, on loopback addresses to be edited
	Partitions int         // 64 when 0
}

// Directory is an operator's directory: file, keys and ledger.
type Directory struct{ Dir string }

// File is the path of the world file.
func (d Directory) File() string { return filepath.Join(d.Dir, FileName) }

// KeyFile is the path of a private key: operator, root, region-sh, pop-pop-1, ...
func (d Directory) KeyFile(name string) string { return filepath.Join(d.Dir, KeysName, name+".pem") }

// Key reads a private key.
func (d Directory) Key(name string) (ed25519.PrivateKey, error) { return ReadKey(d.KeyFile(name)) }

// Root returns the root's public key, which nodes pin.
func (d Directory) Root() (region.PublicKey, error) {
	return KeysIn(filepath.Join(d.Dir, KeysName))("root")
}

// Ledger opens the ledger; the caller closes it.
func (d Directory) Ledger() (*Ledger, error) { return OpenLedger(filepath.Join(d.Dir, LedgerName)) }

// Genesis returns the first world, which the ledger has; nil when there is none.
func (d Directory) Genesis() (_ *region.Envelope, err error) {
	l, err := d.Ledger()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, e := range l.entries {
		if len(e.Signed.Parents) == 0 {
			return &region.Envelope{Signed: e.Signed, Acceptances: []region.Acceptance{}}, nil
		}
	}
	return nil, region.Errorf(region.NotFound, "no world has been signed in %s", d.Dir).WithHint("`homing world init` does")
}

// SignNext compiles the directory's file as a successor of the ledger's tips
// and signs it with the operator key. parents, when given, are used instead of
// the tips.
func (d Directory) SignNext(forced bool, parents ...*region.Known) (_ *region.Envelope, err error) {
	key, err := d.Key("operator")
	if err != nil {
		return nil, err
	}
	l, err := d.Ledger()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if len(parents) == 0 {
		parents = l.Tips()
	}
	w, err := CompileFile(d.File(), parents...)
	if err != nil {
		return nil, err
	}
	s, err := l.Sign(w, parents, forced, key)
	if err != nil {
		return nil, err
	}
	return &region.Envelope{Signed: s, Acceptances: []region.Acceptance{}}, nil
}

// Init makes the directory: keys that are missing, the file, the ledger, and
// the first world signed with the operator key and the root key. It refuses a
// directory that has a world file, unless that is the Source itself.
func Init(o Options) (*Directory, *region.Envelope, error) {
	d := &Directory{Dir: o.Dir}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, nil, region.Errorf(region.Internal, "directory %s cannot be made", o.Dir).WithCause(err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, LedgerName)); err == nil {
		return nil, nil, region.Errorf(region.Conflict, "%s has a world already", o.Dir).WithHint("edit %s and `homing world sign`, or choose another directory", d.File())
	}
	src := o.Source
	if src == nil {
		w := o.World
		if w == nil {
			w = first(o)
		}
		filled, err := d.fill(w)
		if err != nil {
			return nil, nil, err
		}
		src = []byte(Show(filled))
	} else {
		// Which keys are missing is known only after reading the file once.
		w, err := Compile(d.File(), src, d.makeKey)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range nodeKeys(w)[:2] {
			if _, err := d.makeKey(name); err != nil {
				return nil, nil, err
			}
		}
	}
	if _, err := Compile(d.File(), src, KeysIn(filepath.Join(o.Dir, KeysName))); err != nil {
		return nil, nil, err
	}
	if old, err := os.ReadFile(d.File()); err != nil || string(old) != string(src) {
		if err := create(d.File(), src, 0o644); err != nil {
			return nil, nil, err
		}
	}
	e, err := d.signFirst()
	return d, e, err
}

func (d *Directory) signFirst() (_ *region.Envelope, err error) {
	w, err := CompileFile(d.File())
	if err != nil {
		return nil, err
	}
	var keys []ed25519.PrivateKey
	for _, name := range []string{"operator", "root"} {
		k, err := d.Key(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	l, err := d.Ledger()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := l.Sign(w, nil, false, keys...)
	if err != nil {
		return nil, err
	}
	e := &region.Envelope{Signed: s, Acceptances: []region.Acceptance{}}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return e, create(filepath.Join(d.Dir, GenesisName), append(b, '\n'), 0o644)
}

// makeKey returns a public key of the directory, making the pair when missing.
func (d *Directory) makeKey(name string) (region.PublicKey, error) {
	dir := filepath.Join(d.Dir, KeysName)
	k, err := KeysIn(dir)(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if _, err := MakeKey(dir, name); err != nil {
		return nil, err
	}
	return KeysIn(dir)(name)
}

// fill returns a copy of the world with the keys it lacks and its first counters.
func (d *Directory) fill(in *region.World) (*region.World, error) {
	w := *in
	w.Regions = append([]region.Region(nil), in.Regions...)
	w.POPs = append([]region.POP(nil), in.POPs...)
	w.DNS = append([]region.Node(nil), in.DNS...)
	w.IDs = append([]region.Node(nil), in.IDs...)
	var err error
	fill := func(k *region.PublicKey, name string) {
		if len(*k) == 0 && err == nil {
			*k, err = d.makeKey(name)
		}
	}
	if len(w.Operators) == 0 {
		w.Operators = make([]region.PublicKey, 1)
		fill(&w.Operators[0], "operator")
	}
	fill(&w.Root, "root")
	w.Threshold = max(1, w.Threshold)
	for i := range w.Regions {
		fill(&w.Regions[i].Key, "region-"+string(w.Regions[i].ID))
		if w.Regions[i].Acting.Region == "" {
			w.Regions[i].Acting.Region = w.Regions[i].ID
		}
	}
	for i := range w.POPs {
		fill(&w.POPs[i].Key, "pop-"+string(w.POPs[i].ID))
	}
	for i := range w.DNS {
		fill(&w.DNS[i].Key, "dns-"+w.DNS[i].Name)
	}
	for i := range w.IDs {
		fill(&w.IDs[i].Key, "ids-"+w.IDs[i].Name)
	}
	if w.Steering == (region.Steering{}) {
		w.Steering = region.Steering{TTL: 30, Answers: 3, AllDown: "everything"}
	}
	return &w, err
}

// first is a small world to begin with.
func first(o Options) *region.World {
	w := &region.World{Name: o.Name, Zone: o.Zone, Partitions: o.Partitions}
	if w.Partitions == 0 {
		w.Partitions = 64
	}
	for i, id := range o.Regions {
		ip := fmt.Sprintf("127.0.%d.1", i+1)
		r := region.Region{ID: id, Title: string(id), Zones: []string{"a"}, Admin: ip + ":7400", Queue: ip + ":7500"}
		for _, b := range o.Regions {
			if b != id {
				r.Backups = append(r.Backups, b)
			}
		}
		r.Serves = region.Endpoints{Long: mustAddr(ip, 7100), Short: mustAddr(ip, 7200), Web: mustAddr(ip, 7300)}
		w.Regions = append(w.Regions, r)
		n := region.UIN(i+1) * 1_000_000
		w.Segments = append(w.Segments, region.Segment{First: n, Last: n + 999_999, Home: id})
	}
	return w
}
