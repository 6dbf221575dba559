// Package pgtest runs real PostgreSQL servers for tests, from the programs that
// Debian's package postgresql installs.
//
// It guarantees that a server listens on a Unix socket in its own directory
// only, or on loopback when it is under Patroni, asks for a password that is made
// up anew each time, runs as an ordinary user when the tests run as root, and is
// gone with its files after Stop.
package pgtest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

// patience is how long a server may take to start or stop, on a busy machine.
const patience = 60 * time.Second

// programs is where PostgreSQL's are; Debian keeps them out of PATH.
func programs() (string, error) {
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), "initdb")); err == nil {
				return filepath.Dir(p), nil
			}
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server here (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(slices.Max(found)), nil
}

// account is whom the servers run as: PostgreSQL refuses to be root.
func account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("no user postgres or nobody to run PostgreSQL as")
}

// Available says why there can be no server here, or nil.
func Available() error {
	_, err := programs()
	if err == nil {
		_, err = account()
	}
	return err
}

// Server is a PostgreSQL server.
type Server struct {
	Dir string // with its data below data

	bin      string
	as       *syscall.Credential
	password string
	cmd      *exec.Cmd
	exited   chan struct{}
	log      bytes.Buffer
}

// Memory returns a directory on a file system in memory where there is one, for
// tests that need many commits and no disk; "" otherwise.
func Memory() string {
	const shm = "/dev/shm"
	if f, err := os.CreateTemp(shm, "homing-pg-"); err == nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return shm
	}
	return ""
}

// New makes a server's directory, below parent ("" is the system's for temporary
// files), and initialises it. settings are lines of postgresql.conf. The server
// does not run yet.
func New(parent string, settings ...string) (*Server, error) {
	s, err := empty(parent)
	if err != nil {
		return nil, err
	}
	s.password = rand.Text()
	pwfile := filepath.Join(s.Dir, "password")
	err = s.own(pwfile, s.password)
	if err == nil {
		err = s.run("initdb", "-D", s.data(), "-U", "homing", "--pwfile", pwfile, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C")
	}
	if err == nil {
		err = s.Configure(append([]string{
			"listen_addresses = ''", "unix_socket_directories = '" + s.Dir + "'", "max_connections = 200", "shared_buffers = 64MB",
			"wal_level = replica", "max_wal_senders = 8", "hot_standby = on", "autovacuum_naptime = 10s",
			"dynamic_shared_memory_type = mmap", // in its directory: a killed server leaves nothing in /dev/shm
		}, settings...)...)
	}
	if err != nil {
		_ = os.RemoveAll(s.Dir)
		return nil, err
	}
	return s, nil
}

// Standby makes a standby of a running server, under an application name that
// synchronous_standby_names of the primary may have. It does not run yet.
func (s *Server) Standby(name string) (*Server, error) {
	b, err := empty(filepath.Dir(s.Dir))
	if err != nil {
		return nil, err
	}
	b.password = s.password
	passfile := filepath.Join(b.Dir, "passfile")
	err = b.own(passfile, "*:*:*:homing:"+s.password+"\n")
	conninfo := fmt.Sprintf("host=%s user=homing passfile=%s application_name=%s", s.Dir, passfile, name)
	if err == nil {
		err = b.run("pg_basebackup", "-D", b.data(), "-d", conninfo, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	}
	if err == nil {
		// The copy has the primary's settings.
		err = b.Configure("unix_socket_directories = '"+b.Dir+"'", "primary_conninfo = '"+conninfo+"'", "synchronous_standby_names = ''")
	}
	if err != nil {
		_ = os.RemoveAll(b.Dir)
		return nil, err
	}
	return b, nil
}

func empty(parent string) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	as, err := account()
	if err != nil {
		return nil, err
	}
	// A short path: a socket's has 107 bytes at most.
	dir, err := os.MkdirTemp(parent, "homing-pg-")
	if err != nil {
		return nil, err
	}
	if as != nil {
		err = os.Chown(dir, int(as.Uid), int(as.Gid))
	}
	return &Server{Dir: dir, bin: bin, as: as}, err
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// own writes a file that only the server's user may read.
func (s *Server) own(name, text string) error {
	err := os.WriteFile(name, []byte(text), 0o600)
	if err == nil && s.as != nil {
		err = os.Chown(name, int(s.as.Uid), int(s.as.Gid))
	}
	return err
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + s.Dir}
	// Nothing here outlives the tests, however they end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (s *Server) run(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Configure appends lines to the settings; they hold after Start or Reload.
func (s *Server) Configure(settings ...string) error {
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(settings, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// Reload makes a running server read its settings.
func (s *Server) Reload() error { return s.cmd.Process.Signal(syscall.SIGHUP) }

// DSN is for lib/pq, to the database every server has.
func (s *Server) DSN() string {
	return fmt.Sprintf("host=%s port=5432 user=homing password=%s dbname=postgres sslmode=disable", s.Dir, s.password)
}

// Host is where the server is found, for DSNs of several.
func (s *Server) Host() string { return s.Dir }

// Password is the superuser homing's.
func (s *Server) Password() string { return s.password }

// Start runs the server, and waits until it takes connections.
func (s *Server) Start() error {
	for deadline := time.Now().Add(patience); ; {
		_ = os.Remove(filepath.Join(s.data(), "postmaster.pid")) // of one that was killed
		s.log.Reset()
		s.cmd = s.command("postgres", "-D", s.data())
		s.cmd.Stderr = &s.log
		var err error
		if s.exited, err = child.Start(s.cmd); err != nil {
			return err
		}
		for {
			status, _ := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
			if lines := strings.Split(string(status), "\n"); len(lines) > 7 && (strings.TrimSpace(lines[7]) == "ready" || strings.TrimSpace(lines[7]) == "standby") {
				return nil
			}
			select {
			case <-s.exited:
			case <-time.After(10 * time.Millisecond):
				if time.Now().Before(deadline) {
					continue
				}
				s.Kill()
			}
			break
		}
		// What a killed server leaves in shared memory goes a moment later.
		if time.Now().After(deadline) || !strings.Contains(s.log.String(), "still in use") {
			return fmt.Errorf("PostgreSQL did not start: %s", s.log.String())
		}
	}
}

// Running says whether the server's process is there. PostgreSQL ends by itself
// when it cannot write its log and cannot recover.
func (s *Server) Running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Kill ends the server and all its processes as a power cut does, and waits
// until they are gone. What it had not synced stays in the page cache, though.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	killTree(s.cmd.Process.Pid)
	<-s.exited
	s.cmd = nil
}

// Promote makes a standby a primary, and waits until it is.
func (s *Server) Promote() error { return s.run("pg_ctl", "promote", "-D", s.data(), "-w") }

// Stop ends the server and removes its directory.
func (s *Server) Stop() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // at once; nothing is kept
		select {
		case <-s.exited:
		case <-time.After(patience):
			s.Kill()
		}
	}
	return os.RemoveAll(s.Dir)
}
