package worldfile

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/homing-im/homing/region"
)

// Ledger is the file beside the operator key that records every world signed
// with it. It will not sign two successors of one parent unless the second
// names the first as a parent too: only then can nodes that took up either go
// on together. It holds a lock on its file until [Ledger.Close].
type Ledger struct {
	file    *os.File
	entries []Signing
}

// Signing is one line of the ledger. It is written before the signature leaves.
type Signing struct {
	Time   time.Time      `json:"time"`
	Hash   region.Hash    `json:"hash"`
	Signed *region.Signed `json:"signed"`
}

// OpenLedger opens or makes the ledger, mode 0600.
//
// Errors: Unavailable while another process has it; Internal when it is damaged.
func OpenLedger(path string) (_ *Ledger, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, region.Errorf(region.Internal, "ledger %s cannot be opened", path).WithCause(err)
	}
	l := &Ledger{file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, region.Errorf(region.Unavailable, "ledger %s is in use by another process", path).WithHint("wait for it to end").WithCause(err)
	}
	r := bufio.NewReader(f)
	for at, n := int64(0), 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// A line without its end was never acted on: its sync had not returned.
			return l, f.Truncate(at)
		}
		if err != nil {
			return nil, region.Errorf(region.Internal, "ledger %s cannot be read", path).WithCause(err)
		}
		var e Signing
		if err := json.Unmarshal(line, &e); err != nil || e.Signed == nil || e.Signed.Hash() != e.Hash {
			return nil, region.Errorf(region.Internal, "%s:%d: damaged", path, n).WithCause(err).WithHint("restore the ledger; without it two worlds could be signed for one parent")
		}
		l.entries = append(l.entries, e)
		at += int64(len(line))
	}
}

// Close releases the ledger.
func (l *Ledger) Close() error { return l.file.Close() }

// Entries returns what was signed, oldest first.
func (l *Ledger) Entries() []Signing { return slices.Clone(l.entries) }

// Tips returns the signed worlds that no other signed world follows: what the
// next world's parents are. More than one is a fork of the operator's own.
func (l *Ledger) Tips() []*region.Known {
	var tips []*region.Known
	for _, e := range l.entries {
		if !slices.ContainsFunc(l.entries, func(f Signing) bool { return slices.Contains(f.Signed.Parents, e.Hash) }) {
			if k := known(e.Signed); k != nil && !slices.ContainsFunc(tips, func(t *region.Known) bool { return t.Hash == k.Hash }) {
				tips = append(tips, k)
			}
		}
	}
	return tips
}

// Find returns the newest signed world with the hash's beginning in hex, or the
// version in decimal.
func (l *Ledger) Find(name string) (*region.Known, bool) {
	for _, e := range slices.Backward(l.entries) {
		if fmt.Sprint(e.Signed.Version) == name || len(name) >= 8 && len(name) <= 64 && e.Hash.String()[:len(name)] == name {
			if k := known(e.Signed); k != nil {
				return k, true
			}
		}
	}
	return nil, false
}

func known(s *region.Signed) *region.Known {
	w, err := s.Decode()
	if err != nil {
		return nil
	}
	return &region.Known{Signed: s, World: w, Hash: s.Hash()}
}

// Adopt records worlds this operator did not sign, such as another operator's,
// so that they can be parents.
func (l *Ledger) Adopt(worlds ...*region.Signed) error {
	for _, s := range worlds {
		if !slices.ContainsFunc(l.entries, func(e Signing) bool { return e.Hash == s.Hash() }) {
			if err := l.record(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sign signs the world as a successor of the parents (none for the first) and
// records it before it returns. The keys are operator keys, or the root's.
//
// Errors: Conflict when an earlier successor of a parent is not a parent too;
// those of [region.VerifySuccessor]: nothing is signed that nodes would refuse.
func (l *Ledger) Sign(w *region.World, parents []*region.Known, forced bool, keys ...ed25519.PrivateKey) (*region.Signed, error) {
	payload, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	s := &region.Signed{Format: region.Format, Requires: []string{}, Version: w.Version, Parents: []region.Hash{}, Payload: payload, Forced: forced}
	for _, p := range parents {
		s.Parents = append(s.Parents, p.Hash)
	}
	for _, k := range keys {
		s.Sign(k)
	}
	if err := l.check(s); err != nil {
		return nil, err
	}
	if len(parents) == 0 {
		_, err = region.VerifyFirst(s, w.Root)
		if err != nil && len(w.Operators) > 0 {
			_, err = region.VerifyFirst(s, w.Operators[0])
		}
		if err != nil {
			return nil, err
		}
	}
	for _, p := range parents {
		if _, err := region.VerifySuccessor(p, s); err != nil {
			return nil, err
		}
	}
	if size := len(payload) * 4 / 3; size > region.MaxSigned*9/10 {
		return nil, region.Errorf(region.TooLarge, "the world is %d bytes signed, more than nodes read", size).WithHint("shorten the rules; use the overlay for owners")
	}
	return s, l.record(s)
}

func (l *Ledger) check(s *region.Signed) error {
	h := s.Hash()
	for _, e := range l.entries {
		if e.Hash == h {
			continue // the same world again, for one more signature
		}
		if len(e.Signed.Parents) == 0 && len(s.Parents) == 0 {
			return region.Errorf(region.Conflict, "a first world, %s, has been signed already", e.Hash.Short()).WithHint("another world needs another directory")
		}
		for _, p := range s.Parents {
			if slices.Contains(e.Signed.Parents, p) && !slices.Contains(s.Parents, e.Hash) {
				return region.Errorf(region.Conflict, "world %d %s has been signed as a successor of %s; a second one could split the nodes", e.Signed.Version, e.Hash.Short(), p.Short()).
					WithHint("push that one, or resolve it: --parent %s --parent %s", p.Short(), e.Hash.Short())
			}
		}
	}
	return nil
}

func (l *Ledger) record(s *region.Signed) error {
	e := Signing{Time: time.Now().UTC(), Hash: s.Hash(), Signed: s}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := io.Copy(l.file, bytes.NewReader(append(line, '\n'))); err != nil {
		return region.Errorf(region.Internal, "the ledger cannot be written").WithCause(err)
	}
	if err := errors.Join(l.file.Sync(), syncDir(filepath.Dir(l.file.Name()))); err != nil {
		return region.Errorf(region.Internal, "the ledger cannot be written").WithCause(err)
	}
	l.entries = append(l.entries, e)
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
