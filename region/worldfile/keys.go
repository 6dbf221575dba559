package worldfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/homing-im/homing/region"
)

// KeysIn finds public keys in a folder: NAME.pub, base64.
func KeysIn(dir string) Keys {
	return func(name string) (k region.PublicKey, err error) {
		if strings.ContainsAny(name, `/\`) {
			return nil, fmt.Errorf("%q is no name", name)
		}
		data, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		if err != nil {
			return nil, err
		}
		if err := k.UnmarshalText([]byte(strings.TrimSpace(string(data)))); err != nil {
			return nil, err
		}
		return k, nil
	}
}

const pemType = "PRIVATE KEY"

// MakeKey makes a key pair in dir: NAME.pem (PKCS#8, mode 0600) and NAME.pub.
// It refuses to replace one.
func MakeKey(dir, name string) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := create(filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return key, create(filepath.Join(dir, name+".pub"), []byte(region.PublicKey(pub).String()+"\n"), 0o644)
}

func create(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return region.Errorf(region.Conflict, "%s is there already", path).WithHint("it is not replaced; move it away first")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadKey reads a private key: PEM, PKCS#8, ed25519. A file that its group or
// others may read or write is refused.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, region.Errorf(region.NotFound, "key %s cannot be read", path).WithCause(err).WithHint("is the path right?")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, region.Errorf(region.Forbidden, "key %s has mode %04o: others than its owner could read or replace it", path, info.Mode().Perm()).WithHint("chmod 600 %s; if others could log in, make a new key", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, region.Errorf(region.NotFound, "key %s cannot be read", path).WithCause(err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "%s: %v", path, err).WithHint("want a PEM file as `homing world init` writes it")
	}
	return key, nil
}

func parseKey(data []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("not one PEM block of type " + pemType)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, not ed25519", k)
	}
	return key, nil
}
