package acting

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/homing-im/homing/region"
)

// Entry is a line of the audit log, DIR/audit.jsonl. Sig is the operator's
// signature over the JSON of the entry without it.
type Entry struct {
	Time   time.Time        `json:"time"`
	Plan   *Plan            `json:"plan,omitempty"` // of a change of who acts for a region
	Did    string           `json:"did,omitempty"`  // anything else, as one would type it
	World  region.Hash      `json:"world"`          // that was signed, or was the newest
	Signer region.PublicKey `json:"signer"`
	Sig    []byte           `json:"sig,omitempty"`
}

// Valid says whether the entry is its signer's.
func (e Entry) Valid() bool {
	sig := e.Sig
	e.Sig = nil
	b, err := json.Marshal(e)
	return err == nil && len(e.Signer) == ed25519.PublicKeySize && ed25519.Verify(ed25519.PublicKey(e.Signer), b, sig)
}

// audit writes down what is about to be done, before it is.
func (o *Operator) audit(key ed25519.PrivateKey, e Entry) error {
	e.Time, e.Signer = time.Now().UTC().Truncate(time.Millisecond), region.PublicKey(key.Public().(ed25519.PublicKey))
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	e.Sig = ed25519.Sign(key, b)
	if b, err = json.Marshal(e); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(o.Dir.Dir, "audit.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
