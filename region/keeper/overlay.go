package keeper

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const frameHead = 8

// overlay is the owners who moved: entries in memory, batches in a file.
type overlay struct {
	Owners
	id string // of the file, so that a cursor of another file is noticed

	write   sync.Mutex // one appender; taken before the owners' lock
	file    *os.File
	offsets []int64 // where each batch begins, then where the next will
}

const logMagic = "homing.overlay.log\x00"

// openOverlay reads the file: magic, 16 bytes of ID, then frames. A torn last
// frame, from a crash before its sync, is cut off; nobody was told of it.
func openOverlay(path string) (_ *overlay, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, internal(err, "the overlay cannot be opened")
	}
	o := &overlay{file: f}
	defer func() {
		if err != nil {
			err = errors.Join(internal(err, "the overlay cannot be read"), f.Close())
		}
	}()
	head := make([]byte, len(logMagic)+16)
	if n, err := io.ReadFull(f, head); err != nil {
		if n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		copy(head, logMagic)
		if _, err := rand.Read(head[len(logMagic):]); err != nil {
			return nil, err
		}
		if _, err := f.WriteAt(head, 0); err != nil {
			return nil, err
		}
		if err := errors.Join(f.Sync(), syncDir(filepath.Dir(path))); err != nil {
			return nil, err
		}
	}
	if string(head[:len(logMagic)]) != logMagic {
		return nil, errors.New("not an overlay log")
	}
	o.id = hex.EncodeToString(head[len(logMagic):])
	at := int64(len(head))
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	o.offsets = []int64{at}
	for {
		frame, b, err := readFrame(r)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, errTorn) {
				return nil, err
			}
			break
		}
		o.Put(b.Entries...)
		at += int64(len(frame))
		o.offsets = append(o.offsets, at)
	}
	return o, f.Truncate(at)
}

var errTorn = errors.New("torn frame")

// readFrame reads one frame of the file or the feed; [io.EOF] at its end.
func readFrame(r io.Reader) ([]byte, *Batch, error) {
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(r, head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return nil, nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n > MaxBatchSize {
		return nil, nil, errTorn
	}
	frame := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, frame[frameHead:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errTorn
		}
		return nil, nil, err
	}
	if crc32.Checksum(frame[frameHead:], castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, nil, errTorn
	}
	b, err := DecodeBatch(frame[frameHead:])
	return frame, b, err
}

func appendFrame(dst []byte, b *Batch) []byte {
	data := b.Encode()
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(data, castagnoli))
	return append(dst, data...)
}

// append makes a verified batch durable, then shows it. The caller holds write.
func (o *overlay) append(b *Batch) error {
	at := o.offsets[len(o.offsets)-1]
	frame := appendFrame(nil, b)
	if _, err := o.file.WriteAt(frame, at); err != nil {
		return internal(err, "the overlay cannot be written")
	}
	if err := o.file.Sync(); err != nil {
		return internal(err, "the overlay cannot be written")
	}
	o.offsets = append(o.offsets, at+int64(len(frame)))
	o.Put(b.Entries...)
	return nil
}

// feed returns the frames after cursor after, at most max bytes of them but at
// least one, and the cursor behind them.
func (o *overlay) feed(after uint64, max int64) ([]byte, uint64, error) {
	o.write.Lock()
	offsets := o.offsets
	o.write.Unlock()
	last := uint64(len(offsets) - 1)
	if after >= last {
		return nil, min(after, last), nil
	}
	to := after + 1
	for to < last && offsets[to+1]-offsets[after] <= max {
		to++
	}
	data := make([]byte, offsets[to]-offsets[after])
	if _, err := o.file.ReadAt(data, offsets[after]); err != nil {
		return nil, 0, internal(err, "the overlay cannot be read")
	}
	return data, to, nil
}

func (o *overlay) close() error { return o.file.Close() }
