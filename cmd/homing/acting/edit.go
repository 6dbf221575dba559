package acting

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/homing-im/homing/region"
)

var (
	regionLine = regexp.MustCompile(`^(\s*)-\s+id:\s*["']?([a-z0-9-]+)["']?\s*(#.*)?$`)
	actingLine = regexp.MustCompile(`^\s*acting:`)
	topLine    = regexp.MustCompile(`^[a-z]`)
)

// edit writes who acts for a home into a world file, and leaves every other byte
// as the operator wrote it. It is an error when the home's entry is not found:
// then the file is written in a way that a person has to edit.
func edit(src []byte, home, to region.ID) ([]byte, error) {
	lines := bytes.SplitAfter(src, []byte("\n"))
	at, indent, section := -1, "", ""
	for i, line := range lines {
		text := bytes.TrimRight(line, "\r\n")
		if topLine.Match(text) {
			section = string(text)
			if at >= 0 {
				break
			}
		}
		m := regionLine.FindSubmatch(text)
		switch {
		case m != nil && at >= 0:
			return insert(lines, at, indent, to), nil // the next entry
		case m != nil && section == "regions:" && string(m[2]) == string(home):
			at, indent = i, string(m[1])+"  "
		case at >= 0 && actingLine.Match(text):
			lines[i] = []byte(indent + "acting: " + string(to) + "\n")
			return bytes.Join(lines, nil), nil
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("the entry of region %s is not found", home)
	}
	return insert(lines, at, indent, to), nil
}

func insert(lines [][]byte, after int, indent string, to region.ID) []byte {
	head := bytes.Join(lines[:after+1], nil)
	head = append(head, indent+"acting: "+string(to)+"\n"...)
	return append(head, bytes.Join(lines[after+1:], nil)...)
}

// setActing edits the operator's world file, so that the next world that is
// signed from it does not take the change back.
func setActing(path string, home, to region.ID) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := edit(src, home, to)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	next := filepath.Join(filepath.Dir(path), ".world.yaml.next")
	if err := os.WriteFile(next, out, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
