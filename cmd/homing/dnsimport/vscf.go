package dnsimport

import (
	"strings"
)

// value is a piece of gdnsd's configuration language: a scalar, a list or a hash.
type value struct {
	line   int
	scalar string
	list   []*value
	hash   []entry
	kind   byte // 's', '[' or '{'
}

type entry struct {
	key   string
	line  int
	value *value
}

// get returns what a hash has under a key, or nil.
func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for _, e := range v.hash {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// items are the scalars of a list, or the one that stands for a list of one.
func (v *value) items() ([]*value, bool) {
	switch v.kind {
	case 's':
		return []*value{v}, true
	case '[':
		for _, x := range v.list {
			if x.kind != 's' {
				return nil, false
			}
		}
		return v.list, true
	}
	return nil, false
}

type vscf struct {
	file, src string
	at, line  int
}

// parseVSCF reads a whole file, which is a hash without braces, or with.
func parseVSCF(file, src string) (*value, error) {
	p := &vscf{file: file, src: src, line: 1}
	p.space()
	if p.at < len(p.src) && p.src[p.at] == '{' {
		v, err := p.value(0)
		if p.space(); err == nil && p.at < len(p.src) {
			err = p.fail("something stands behind the end")
		}
		return v, err
	}
	v := &value{kind: '{', line: 1}
	return v, p.hash(v, 0, 0)
}

// maxDepth bounds nesting, so that a file cannot exhaust the stack.
const maxDepth = 64

func (p *vscf) fail(why string) error { return &Refusal{p.file, p.line, why} }

// space passes blanks, commas and comments.
func (p *vscf) space() {
	for p.at < len(p.src) {
		switch c := p.src[p.at]; c {
		case '\n':
			p.line++
			p.at++
		case ' ', '\t', '\r', ',':
			p.at++
		case '#', ';':
			for p.at < len(p.src) && p.src[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// hash reads entries up to a closing byte, or the end for 0.
func (p *vscf) hash(into *value, end byte, depth int) error {
	for {
		p.space()
		if p.at >= len(p.src) {
			if end == 0 {
				return nil
			}
			return p.fail("a { is not closed")
		}
		if end != 0 && p.src[p.at] == end {
			p.at++
			return nil
		}
		line := p.line
		key, err := p.word()
		if err != nil {
			return err
		}
		p.space()
		if p.at >= len(p.src) || p.src[p.at] != '=' {
			return p.fail("want => behind " + key)
		}
		p.at++
		if p.at < len(p.src) && p.src[p.at] == '>' {
			p.at++
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		into.hash = append(into.hash, entry{key, line, v})
	}
}

func (p *vscf) value(depth int) (*value, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	p.space()
	v := &value{line: p.line}
	if p.at >= len(p.src) {
		return nil, p.fail("a value is missing")
	}
	switch p.src[p.at] {
	case '{':
		p.at++
		v.kind = '{'
		return v, p.hash(v, '}', depth)
	case '[':
		p.at++
		v.kind = '['
		for {
			p.space()
			if p.at >= len(p.src) {
				return nil, p.fail("a [ is not closed")
			}
			if p.src[p.at] == ']' {
				p.at++
				return v, nil
			}
			x, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, x)
		}
	}
	text, err := p.word()
	v.kind, v.scalar = 's', text
	return v, err
}

// word reads a scalar, bare or quoted.
func (p *vscf) word() (string, error) {
	if p.src[p.at] == '"' {
		var b strings.Builder
		for p.at++; p.at < len(p.src); p.at++ {
			switch c := p.src[p.at]; {
			case c == '"':
				p.at++
				return b.String(), nil
			case c == '\n':
				return "", p.fail("a quoted word does not end")
			case c == '\\' && p.at+1 < len(p.src) && p.src[p.at+1] != '\n':
				p.at++
				b.WriteByte(p.src[p.at])
			default:
				b.WriteByte(c)
			}
		}
		return "", p.fail("a quoted word does not end")
	}
	from := p.at
	for p.at < len(p.src) && !strings.ContainsRune(" \t\r\n,;#\"{}[]=", rune(p.src[p.at])) {
		p.at++
	}
	word := p.src[from:p.at]
	switch {
	case word == "":
		return "", p.fail("unexpected " + p.src[p.at:p.at+1])
	case strings.HasPrefix(word, "$include"):
		return "", p.fail("$include is not followed: put the files together first")
	}
	return word, nil
}
