package cli

import (
	"bufio"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// screen is where a chat is typed and shown. In a terminal what arrives appears
// above the line being typed; elsewhere lines are just read and written.
type screen struct {
	lines <-chan string // closed at the end of input, Ctrl-C and Ctrl-D included
	close func()        // gives the terminal back

	mu  sync.Mutex
	out io.Writer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

// openScreen takes the terminal, when both are one. What reads ends with the
// process: a read of a terminal cannot be interrupted.
func openScreen(in io.Reader, out io.Writer) (*screen, error) {
	lines := make(chan string)
	i, inFile := in.(*os.File)
	o, outFile := out.(*os.File)
	if !inFile || !outFile || !term.IsTerminal(int(i.Fd())) || !term.IsTerminal(int(o.Fd())) {
		go func() {
			defer close(lines)
			for sc := bufio.NewScanner(in); sc.Scan(); {
				lines <- sc.Text()
			}
		}()
		return &screen{lines: lines, close: func() {}, out: out}, nil
	}
	old, err := term.MakeRaw(int(i.Fd()))
	if err != nil {
		return nil, err
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{i, o}, "> ")
	go func() {
		defer close(lines)
		for {
			if w, h, err := term.GetSize(int(o.Fd())); err == nil && w > 0 {
				_ = t.SetSize(w, h)
			}
			line, err := t.ReadLine()
			if err != nil && err != term.ErrPasteIndicator {
				return
			}
			lines <- line
		}
	}()
	restore := sync.OnceFunc(func() {
		_, _ = io.WriteString(o, "\r\x1b[K") // the prompt is not the shell's
		_ = term.Restore(int(i.Fd()), old)
	})
	return &screen{lines: lines, close: restore, out: t}, nil
}
