// Package child starts the real servers of tests as processes that end with the
// test, however that ends.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command. Where the system can (Linux), it gets a signal when
// this process is gone: SysProcAttr.Pdeathsig, SIGKILL when that is not set. The channel is closed when
// it has ended; then cmd.ProcessState says how. Nobody else may call cmd.Wait.
//
// The kernel sends the signal when the thread ends that started the command, so
// it is started on one that stays.
func Start(cmd *exec.Cmd) (exited chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	bind(cmd.SysProcAttr)
	exited = make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(exited)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return exited, <-started
}
