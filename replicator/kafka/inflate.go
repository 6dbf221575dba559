package kafka

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

const (
	// maxInflated bounds a record batch once it is inflated, in bytes: twice what a
	// broker takes of the largest one. A few KiB can say that they are GiB.
	maxInflated = 8 << 20

	// maxInflatedAnswer is after how many inflated bytes the rest of an answer is
	// left for the next fetch.
	maxInflatedAnswer = 64 << 20

	// maxWindow is the window of a frame's back references, which its reader has
	// to hold: that of the strongest ordinary level.
	maxWindow = 8 << 20
)

// newInflater returns what zstd is inflated with, within the limits, for any number
// of answers at a time.
func newInflater() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxInflated))
}

// inflater inflates the record batches of one answer.
type inflater struct {
	zstd  *zstd.Decoder
	total int // bytes so far
}

// enough says whether the rest of the answer is left for the next fetch.
func (i *inflater) enough() bool { return i.total >= maxInflatedAnswer }

// inflate returns what was compressed, reading no further than just beyond the
// limit.
func (i *inflater) inflate(codec compress.Compression, b []byte) (out []byte, err error) {
	if codec == compress.Zstd {
		out, err = i.zstd.DecodeAll(b, nil)
	} else {
		out, err = inflateBy(codec.Codec(), b)
	}
	i.total += len(out)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: a record batch does not inflate: %w", errDamaged, err)
	case len(out) > maxInflated:
		return nil, fmt.Errorf("%w: a record batch inflates to more than %d bytes", errDamaged, maxInflated)
	}
	return out, nil
}

func inflateBy(codec compress.Codec, b []byte) ([]byte, error) {
	if codec == nil {
		return nil, fmt.Errorf("it is compressed in an unknown way")
	}
	r := codec.NewReader(bytes.NewReader(b))
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, maxInflated+1))
}
