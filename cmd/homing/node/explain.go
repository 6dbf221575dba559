package node

import (
	"errors"
	"fmt"
	"syscall"
)

// explain adds what to do to the errors that every operator meets.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: stop what uses the address, or choose another", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine does not have that address", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: make room on the disk and start again; nothing that was acknowledged is lost", err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: run as a user who may, or choose another directory or port", err)
	default:
		return err
	}
}
