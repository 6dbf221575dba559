package client

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// outboxDir is a directory with one file per kept message: its name is the
// client message ID in hexadecimal and ".json", its content a keptFile. Several
// processes of one user may share it: whatever two of them send twice is stored
// once.
type outboxDir struct {
	path string
	log  *slog.Logger
}

// keptFile is the content of a file. Bytes are protobuf, in base64.
type keptFile struct {
	Number  uint64 `json:"number"`
	Request []byte `json:"request"`         // homing.v1.SendRequest
	Epoch   []byte `json:"epoch,omitempty"` // homing.v1.Epoch of the answer
	Mark    []byte `json:"mark,omitempty"`  // homing.v1.Mark of the answer; absent until there is one
}

const maxKeptFile = 64 << 10 // bytes; a text is 16 KiB at most

func openOutboxDir(path string, log *slog.Logger) (*outboxDir, []*kept, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, nil, fmt.Errorf("client: the outbox: %w", err)
	}
	d := &outboxDir{path: path, log: log}
	files, err := os.ReadDir(path)
	if err != nil {
		return nil, nil, fmt.Errorf("client: the outbox: %w", err)
	}
	var left []*kept
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".json" {
			continue // another process is writing it
		}
		b, err := os.ReadFile(filepath.Join(path, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process had no more need of it
		}
		k, derr := decodeKept(b)
		if err = errors.Join(err, derr); err == nil && f.Name() != fileOf(k) {
			err = errors.New("its name is another message's")
		}
		if err != nil {
			log.Warn("a kept message cannot be read and is left where it is", "file", f.Name(), "error", err)
			continue
		}
		left = append(left, k)
	}
	return d, left, nil
}

func fileOf(k *kept) string { return hex.EncodeToString([]byte(k.req.ClientMessageId)) + ".json" }

func encodeKept(k *kept) ([]byte, error) {
	f := keptFile{Number: k.number}
	var err error
	if f.Request, err = proto.Marshal(k.req); err != nil {
		return nil, err
	}
	if k.acked {
		if f.Epoch, err = proto.Marshal(wire.EpochToProto(k.epoch)); err != nil {
			return nil, err
		}
		if f.Mark, err = proto.Marshal(k.mark); err != nil {
			return nil, err
		}
	}
	return json.Marshal(f)
}

func decodeKept(b []byte) (*kept, error) {
	if len(b) > maxKeptFile {
		return nil, fmt.Errorf("%d bytes are more than a message", len(b))
	}
	var f keptFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	k := &kept{number: f.Number, req: new(v1.SendRequest)}
	if err := proto.Unmarshal(f.Request, k.req); err != nil {
		return nil, err
	}
	if n := len(k.req.ClientMessageId); n == 0 || n > 64 {
		return nil, fmt.Errorf("a client message ID of %d bytes", n)
	}
	if len(f.Mark) == 0 {
		return k, nil
	}
	mark, epoch := new(v1.Mark), new(v1.Epoch)
	if err := errors.Join(proto.Unmarshal(f.Mark, mark), proto.Unmarshal(f.Epoch, epoch)); err != nil {
		return nil, err
	}
	e, err := wire.EpochFromProto(epoch)
	if err != nil {
		return nil, err
	}
	k.acked, k.epoch, k.mark = true, e, mark
	return k, nil
}

// write puts a message on disk. A disk that refuses costs the message its life
// beyond this process, and nothing else.
func (d *outboxDir) write(k *kept, durable bool) {
	if d == nil {
		return
	}
	b, err := encodeKept(k)
	if err == nil {
		err = writeFile(filepath.Join(d.path, fileOf(k)), b, durable)
	}
	if err != nil {
		d.log.Warn("a message is kept in memory only", "error", err)
	}
}

func (d *outboxDir) remove(k *kept) {
	if d == nil {
		return
	}
	if err := os.Remove(filepath.Join(d.path, fileOf(k))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("a kept message cannot be removed; it will be sent again, and stored once", "error", err)
	}
}

// writeFile replaces a file by rename, so that a reader finds the old or the
// new one whole; durable brings it and its name to the disk first.
func writeFile(path string, b []byte, durable bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	if !durable {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// outboxPath is the outbox of a user below the client's directory.
func outboxPath(dir string, uin region.UIN) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "outbox-"+uin.String())
}
