// Package endpoints is the file by which tools find a running world:
// DIR/endpoints.json, written by rename with mode 0600 once everything is
// ready, and removed when the world stops.
package endpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/homing-im/homing/region"
)

// File is the name of the file in a world's directory.
const File = "endpoints.json"

// Endpoints is the content of the file. Addresses are host:port, URLs have no
// trailing slash, paths are absolute.
type Endpoints struct {
	DNS         string            `json:"dns"`
	HTTPDNS     string            `json:"httpdns"`
	IDs         string            `json:"ids"`
	Console     string            `json:"console"`
	Zone        string            `json:"zone"`
	Regions     map[string]Region `json:"regions"`
	POPs        map[string]POP    `json:"pops"`
	CACert      string            `json:"ca_cert"`
	OperatorKey string            `json:"operator_key"`

	// Dir is where the file lay when it was read; profiles are kept beside it.
	Dir string `json:"-"`
}

// Region are the listeners of one region.
type Region struct {
	Long  string `json:"long"`
	Short string `json:"short"`
	Web   string `json:"web"`
	Admin string `json:"admin"`
	Queue string `json:"queue"`
}

// AnswerKeysFile is beside the endpoints file and has the keys by which the
// regions sign HTTPDNS answers, as JSON: base64 by region.
const AnswerKeysFile = "answer-keys.json"

// WriteAnswerKeys makes that file.
func WriteAnswerKeys(dir string, w *region.World) error {
	keys := map[region.ID]region.PublicKey{}
	for _, r := range w.Regions {
		keys[r.ID] = r.Key
	}
	b, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, AnswerKeysFile), append(b, '\n'), 0o600)
}

// AnswerKeys returns the keys by which clients verify what HTTPDNS says; nil when
// the world has left none, and then nothing is verified.
//
// Errors: those of a file that is there and cannot be read.
func (e *Endpoints) AnswerKeys() (map[region.ID]region.PublicKey, error) {
	path := filepath.Join(e.Dir, AnswerKeysFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var keys map[region.ID]region.PublicKey
	if err == nil {
		err = json.Unmarshal(b, &keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: start the demo again, which writes it", path, err)
	}
	return keys, nil
}

// POP are the listeners of one POP. Near is the region it stands beside.
type POP struct {
	Long  string `json:"long"`
	Short string `json:"short"`
	Admin string `json:"admin"`
	Near  string `json:"near"`
}

// Read reads an endpoints file.
func Read(path string) (*Endpoints, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no world runs from %s; start one with: homing demo", filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	e := &Endpoints{Dir: filepath.Dir(path)}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; start the world again", path, err)
	}
	if e.DNS == "" || e.HTTPDNS == "" || e.Console == "" || e.Zone == "" || e.CACert == "" || len(e.Regions) == 0 {
		return nil, fmt.Errorf("%s is damaged: it does not say where everything is; start the world again", path)
	}
	return e, nil
}

// Write puts the file into dir, whole or not at all.
func (e *Endpoints) Write(dir string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, File), append(b, '\n'), 0o600)
}

// WriteFile replaces a file by rename, so that a reader sees the old or the new
// content and nothing between. It makes the directory when it is missing.
func WriteFile(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// ConfigDir is where a user's contexts are kept: $HOMING_HOME, else "homing"
// in the user's configuration directory.
func ConfigDir() (string, error) {
	if d := os.Getenv("HOMING_HOME"); d != "" {
		return d, nil
	}
	d, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("%w; set HOMING_HOME to a directory", err)
	}
	return filepath.Join(d, "homing"), nil
}

// DefaultDir is the demo's directory when none is given: "demo" under
// $HOMING_HOME, else "homing/demo" in the user's cache directory.
func DefaultDir() (string, error) {
	if d := os.Getenv("HOMING_HOME"); d != "" {
		return filepath.Join(d, "demo"), nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w; say --dir", err)
	}
	return filepath.Join(d, "homing", "demo"), nil
}
