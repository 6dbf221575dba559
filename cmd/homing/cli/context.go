package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/endpoints"
)

// contexts is the user's list of worlds, kept in contexts.json under the
// configuration directory ($HOMING_HOME, else the system's).
type contexts struct {
	path string

	Current  string            `json:"current,omitempty"`
	Contexts map[string]string `json:"contexts"` // name -> path of endpoints.json
}

func loadContexts() (*contexts, error) {
	dir, err := endpoints.ConfigDir()
	if err != nil {
		return nil, err
	}
	c := &contexts{path: filepath.Join(dir, "contexts.json"), Contexts: map[string]string{}}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; delete it, and start the demo again", c.path, err)
	}
	return c, nil
}

func (c *contexts) save() error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return endpoints.WriteFile(c.path, append(b, '\n'), 0o600)
}

// RegisterContext makes a started world known to later commands, and current
// when no other running world is. A world of another directory keeps its name:
// then this one gets a number behind it.
func RegisterContext(name, path string) error {
	c, err := loadContexts()
	if err != nil {
		return err
	}
	name = c.free(name, path)
	c.Contexts[name] = path
	if cur, ok := c.Contexts[c.Current]; !ok || !running(cur) {
		c.Current = name
	}
	return c.save()
}

// free returns the name under which a world of that path may be put.
func (c *contexts) free(name, path string) string {
	for i, n := 2, name; ; i++ {
		old, taken := c.Contexts[n]
		if !taken || old == path {
			return n
		}
		if _, err := os.Stat(filepath.Dir(old)); errors.Is(err, fs.ErrNotExist) {
			return n // that world's directory is gone
		}
		n = fmt.Sprintf("%s-%d", name, i)
	}
}

// running says whether the endpoints file is there and its DNS address takes
// TCP connections, so a file left by a killed demo does not count.
func running(path string) bool {
	e, err := endpoints.Read(path)
	if err != nil {
		return false
	}
	conn, err := net.DialTimeout("tcp", e.DNS, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// find returns the endpoints the command should talk to: --endpoints, else
// --context, else the current context, else the only running one.
func (e *env) find() (*endpoints.Endpoints, error) {
	if e.endpointsPath != "" {
		return endpoints.Read(e.endpointsPath)
	}
	c, err := loadContexts()
	if err != nil {
		return nil, err
	}
	name := e.contextName
	if name == "" {
		name = c.Current
	}
	if name != "" {
		path, ok := c.Contexts[name]
		if !ok {
			return nil, fmt.Errorf("there is no context %q; see: homing context list", name)
		}
		if !running(path) {
			return nil, fmt.Errorf("the world of context %q is not running (%s); start it with: homing demo", name, path)
		}
		return endpoints.Read(path)
	}
	return nil, errors.New("no world is known here; start one with: homing demo")
}

func newContextCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Choose the world that commands talk to"}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the known worlds", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := loadContexts()
			if err != nil {
				return err
			}
			names := make([]string, 0, len(c.Contexts))
			for n := range c.Contexts {
				names = append(names, n)
			}
			sort.Strings(names)
			if len(names) == 0 {
				fmt.Fprintln(e.out, "no world is known here; start one with: homing demo")
			}
			for _, n := range names {
				mark, state := " ", "stopped"
				if n == c.Current {
					mark = "*"
				}
				if running(c.Contexts[n]) {
					state = "running"
				}
				fmt.Fprintf(e.out, "%s %-12s %-8s %s\n", mark, n, state, c.Contexts[n])
			}
			return nil
		},
	}, &cobra.Command{
		Use: "use NAME", Short: "Make a world the current one", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadContexts()
			if err != nil {
				return err
			}
			if _, ok := c.Contexts[args[0]]; !ok {
				var known []string
				for n := range c.Contexts {
					known = append(known, n)
				}
				sort.Strings(known)
				return fmt.Errorf("there is no context %q; known are: %s", args[0], strings.Join(known, ", "))
			}
			c.Current = args[0]
			if err := c.save(); err != nil {
				return err
			}
			fmt.Fprintf(e.out, "commands now talk to %s\n", args[0])
			return nil
		},
	})
	return cmd
}
