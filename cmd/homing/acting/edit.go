package acting

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

var (
	regionLine = regexp.MustCompile(`^(\s*)-\s+id:\s*["']?([a-z0-9-]+)["']?\s*(#.*)?$`)
	fieldLine  = regexp.MustCompile(`^\s*([a-z-]+):(.*)$`)
	topLine    = regexp.MustCompile(`^[a-z]`)
	wholeValue = regexp.MustCompile(`^\s*(\[[^\[\]]*\]|[^\s\[\]{}#|>][^\[\]{}#]*)\s*(#.*)?$`) // a list in one line, or a scalar
)

// edit writes one field of a region into a world file, or removes it, and leaves
// every other byte as the operator wrote it. It is an error when the region's entry
// is not found, or the field there has more than a line: then the file is written
// in a way that a person has to edit.
func edit(src []byte, f line) ([]byte, error) {
	lines := bytes.SplitAfter(src, []byte("\n"))
	at, indent, section := -1, "", ""
	for i, text := range lines {
		text = bytes.TrimRight(text, "\r\n")
		if topLine.Match(text) {
			section = string(text)
			if at >= 0 {
				break
			}
		}
		m := regionLine.FindSubmatch(text)
		if m != nil && at >= 0 {
			break // the next entry
		}
		if m != nil && section == "regions:" && string(m[2]) == string(f.region) {
			at, indent = i, string(m[1])+"  "
		}
		field := fieldLine.FindSubmatch(text)
		if at < 0 || at == i || field == nil || string(field[1]) != f.field {
			continue
		}
		if !wholeValue.Match(field[2]) {
			return nil, fmt.Errorf("%s of region %s has more than a line", f.field, f.region)
		}
		lines[i] = nil
		if f.value != "" {
			lines[i] = []byte(indent + f.field + ": " + f.value + "\n")
		}
		return bytes.Join(lines, nil), nil
	}
	if at < 0 {
		return nil, fmt.Errorf("the entry of region %s is not found", f.region)
	}
	if f.value == "" {
		return src, nil
	}
	head := bytes.Join(lines[:at+1], nil)
	head = append(head, indent+f.field+": "+f.value+"\n"...)
	return append(head, bytes.Join(lines[at+1:], nil)...), nil
}

// setField edits the operator's world file, so that the next world that is
// signed from it does not take the change back.
func setField(path string, f line) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := edit(src, f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	next := filepath.Join(filepath.Dir(path), ".world.yaml.next")
	if err := os.WriteFile(next, out, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
