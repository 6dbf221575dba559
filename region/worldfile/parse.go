package worldfile

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/homing-im/homing/region"
)

// MaxFile is the largest world file read, in bytes.
const MaxFile = region.MaxSigned

// Mistake is one thing wrong with a world file.
type Mistake struct {
	File         string
	Line, Column int // from 1; 0 when the mistake has no place
	Message      string
	Hint         string
}

func (m *Mistake) Error() string {
	s := m.File
	if m.Line > 0 {
		s += fmt.Sprintf(":%d:%d", m.Line, m.Column)
	}
	s += ": " + m.Message
	if m.Hint != "" {
		s += " (" + m.Hint + ")"
	}
	return s
}

// source is a parsed file: its content and where each path of it stands.
type source struct {
	name string
	tree *ast.File
	file file
}

// parse reads the file strictly: unknown and repeated fields, further
// documents, anchors and aliases are mistakes.
func parse(name string, src []byte) (*source, error) {
	if len(src) > MaxFile {
		return nil, &Mistake{File: name, Message: fmt.Sprintf("the file is over %d bytes", MaxFile)}
	}
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, mistake(name, err)
	}
	s := &source{name: name, tree: tree}
	var docs []*ast.DocumentNode
	for _, d := range tree.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	if len(docs) == 0 {
		return nil, &Mistake{File: name, Line: 1, Column: 1, Message: "the file is empty", Hint: "`homing world init` makes a first one"}
	}
	if len(docs) > 1 {
		return nil, s.at(docs[1].Body, "a second document begins here", "one file is one world")
	}
	if err := s.check(docs[0].Body, reflect.TypeFor[file](), ""); err != nil {
		return nil, err
	}
	if err := yaml.NodeToValue(docs[0].Body, &s.file, yaml.Strict()); err != nil {
		return nil, mistake(name, err)
	}
	return s, nil
}

// mistake turns an error of the YAML library into ours.
func mistake(name string, err error) *Mistake {
	m := &Mistake{File: name, Message: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		m.Message = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			m.Line, m.Column = t.Position.Line, t.Position.Column
		}
	}
	m.Message, _, _ = strings.Cut(m.Message, "\n")
	for from, to := range map[string]string{"cannot unmarshal ": "found ", " into Go struct field ": " in the place of ", " into Go value of type ": " in the place of "} {
		m.Message = strings.ReplaceAll(m.Message, from, to)
	}
	return m
}

func (s *source) at(n ast.Node, message, hint string) *Mistake {
	m := &Mistake{File: s.name, Message: message, Hint: hint}
	if n != nil && n.GetToken() != nil {
		m.Line, m.Column = n.GetToken().Position.Line, n.GetToken().Position.Column
	}
	return m
}

// check walks the tree beside the type it will be read into. The library finds
// unknown fields too, but cannot say what was meant.
func (s *source) check(n ast.Node, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	here := path
	if here == "" {
		here = "a world file"
	}
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		return s.at(n, "anchors, aliases and tags are not used in world files", "write the value out")
	case ast.NullType:
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		var entries []*ast.MappingValueNode
		switch m := n.(type) {
		case *ast.MappingNode:
			entries = m.Values
		case *ast.MappingValueNode:
			entries = []*ast.MappingValueNode{m}
		default:
			return s.at(n, here+" holds fields, not a single value", "known: "+strings.Join(fields(t), ", "))
		}
		for _, e := range entries {
			key := e.Key.String()
			f, ok := field(t, key)
			if !ok {
				return s.at(e.Key, fmt.Sprintf("unknown field %q in %s", key, here), region.Nearest(key, fields(t)))
			}
			if err := s.check(e.Value, f, strings.TrimPrefix(path+"."+key, ".")); err != nil {
				return err
			}
		}
	case reflect.Slice:
		l, ok := n.(*ast.SequenceNode)
		if !ok {
			return s.at(n, here+" is a list", "begin each entry with '-', or write [a, b]")
		}
		for i, v := range l.Values {
			if err := s.check(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
			return s.at(n, here+" is a single value", "")
		}
		return s.scalar(n, t, here)
	}
	return nil
}

// scalar says in our words what the library would say in Go's.
func (s *source) scalar(n ast.Node, t reflect.Type, here string) error {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, ok := n.(*ast.IntegerNode)
		if !ok {
			return s.at(n, fmt.Sprintf("%s is a whole number, not %q", here, n.String()), "")
		}
		if _, err := strconv.ParseUint(fmt.Sprint(i.Value), 10, min(t.Bits(), 63)); err != nil {
			return s.at(n, fmt.Sprintf("%s cannot be %s", here, n.String()), "")
		}
	case reflect.Float64:
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
		default:
			return s.at(n, fmt.Sprintf("%s is a number, not %q", here, n.String()), "")
		}
	case reflect.Bool:
		if n.Type() != ast.BoolType {
			return s.at(n, fmt.Sprintf("%s is true or false, not %q", here, n.String()), "")
		}
	}
	return nil
}

func fields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("yaml"))
	}
	return names
}

func field(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == name {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

// find returns the node of a path such as regions[1].backups[0], or the nearest
// one around it that is written.
func (s *source) find(path string) ast.Node {
	for p := path; p != ""; p = parentPath(p) {
		y, err := yaml.PathString("$." + p)
		if err != nil {
			continue
		}
		if n, err := y.FilterFile(s.tree); err == nil && n != nil {
			return n
		}
	}
	return nil
}

func parentPath(p string) string { return p[:max(0, strings.LastIndexAny(p, ".["))] }

// Locate places problems of a world in the file that it was compiled from.
func Locate(path string, problems []region.Problem) ([]*Mistake, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parse(path, src)
	if err != nil {
		return nil, err
	}
	out := make([]*Mistake, len(problems))
	for i, p := range problems {
		out[i] = s.problem(p)
	}
	return out, nil
}

// problem places a problem that the kernel found.
func (s *source) problem(p region.Problem) *Mistake {
	path := strings.NewReplacer("allDown", "all-down", "drainShare", "drain-share", "newBackup", "new-backup", "healthyPops", "healthy-pops", "healthyRegions", "healthy-regions", ".acting.region", ".acting", ".acting.counter", ".acting").Replace(p.Path)
	n := s.find(path)
	m := s.at(n, p.Message, p.Hint)
	if n == nil {
		m.Line, m.Column = 1, 1
	}
	return m
}
